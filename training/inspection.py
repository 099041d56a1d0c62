"""Run what only the profiled training does: execution plan, profiler, debugger, baseline, labels and report.

None of it may fail the training: each part is imported late, inside a try, and the log says when one breaks. Packages
that a part needs and the container lacks are installed first, once, in bounded time. Setting the variable named below
to 0 forbids that.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from job.metrics import log
from learning.engine import Hook
from learning.preparation import Course, Setup

SWITCH = "WHIPPET_INSTALL"
INSTALL_SECONDS = 180
INDEX_SECONDS = 2.0  # in which an index must answer, else nothing is installed
# smdebug's own pins conflict with a container's packages (pyinstrument 3 does not work on Python 3.13), so its
# dependencies are listed here.
WANTED = {
    "smdebug": "smdebug==1.0.34",
    "pyinstrument": "pyinstrument==5.1.3",
    "google.protobuf": "protobuf==3.20.3",
    "psutil": "psutil>=7,<8",
    "pandas": "pandas>=2.3,<3",
    "requests": "requests>=2.32,<3",
    "boto3": "boto3>=1.40",
    "packaging": "packaging>=24",
    "setuptools": "setuptools<85",
    "matplotlib": "matplotlib>=3.10,<4",
}
Result = TypeVar("Result")


class Inspection:
    """The parts of one profiled training, in the order in which they run.

    shipped: the setup of what ships. before: the same before it was refitted; validation images judge that alone.
    """

    def __init__(self, setup: Setup, course: Course, *, begun: float, stop_asked: Callable[[], bool]) -> None:
        self.setup, self.course, self.begun, self.stop_asked = setup, course, begun, stop_asked
        self.folder, self.shipped, self.before = setup.job.places.checkpoints, setup, setup
        self.debugger: Any = None

    def open(self) -> list[Hook]:
        """Do what comes before the first step. Return the hooks that observe the training."""
        install_missing(WANTED, os.environ, self.setup.job.places.output / "scratch" / "packages")
        profiler, observer = self.attempt("profiler", self.make_profiler), None
        if self.setup.job.ranks == 1:  # its trial steps would wait for the other processes
            observer = self.attempt("execution plan", partial(self.choose_plan, profiler))
        self.debugger = self.attempt("debugger", self.make_debugger)
        hooks = [hook for hook in (profiler, self.debugger) if hook is not None]
        if observer is None:
            return hooks
        observer.others = hooks
        return [*hooks, observer]

    def close(self) -> None:
        """Do what comes after the model has been shipped."""
        self.measure_baseline()
        self.attempt("labels", self.find_fixes)
        self.attempt("unknown images", self.settle_unknown)
        self.attempt("report", self.write_report)
        self.attempt("gallery", self.write_gallery)

    def write_gallery(self) -> None:
        load("report.gallery").write_gallery(self.folder, load("judging.predictions").show_pictures(self.setup.dataset))

    def find_fixes(self) -> None:
        if self.stop_asked():
            return
        data = self.setup.dataset
        unseen = load("learning.baseline").extract_unseen(self.setup, data.train)
        load("judging.fixes").find_fixes(data, self.folder, unseen[0] if unseen else None)

    def settle_unknown(self) -> None:
        if self.stop_asked():
            return
        shipped, baseline = self.shipped, load("learning.baseline")
        if shipped.inputs != self.setup.inputs:
            raise ValueError("what ships takes other inputs than this training read, so the largest logit decides")
        manifest, answer = shipped.job.places.model / "manifest.json", partial(baseline.answer_with, shipped)
        probe = baseline.make_probe(self.before)
        load("judging.foreign").settle_unknown(
            shipped.dataset, self.folder, manifest, answer, probe, self.answer_before()
        )

    def write_report(self) -> Path:
        pictures = load("judging.predictions").show_pictures(self.setup.dataset)
        maps = self.attempt("maps", self.make_maps)
        about = load("learning.records").describe_origin(self.setup)
        path: Path = load("report.writing").write_report(
            self.folder, self.folder.parent, pictures=pictures, maps=maps, about=about
        )
        return path

    def make_maps(self) -> Any:
        """Return what draws maps of the model that ships; None if the dataset was read for other inputs."""
        setup, make_inputs = self.shipped, load("learning.preparation").make_inputs
        if setup.inputs != self.setup.inputs:
            return None
        show = load("judging.predictions").show_maps
        return show(setup.dataset, setup.network, partial(make_inputs, setup), setup.inputs.image_size)

    def choose_plan(self, profiler: Any) -> Any:
        """Make the plan; where there is nothing to try, return the hook that makes it from the training's own steps."""
        planning, told = load("profiler.execution_plan"), (self.setup, self.folder, self.course)
        if profiler is None or not planning.has_nothing_to_try(*told):
            planning.choose_plan(*told, stop_asked=self.stop_asked)
            return None
        return load("profiler.observing").Observer(*told, profiler.timeline, self.stop_asked)

    def make_profiler(self) -> Any:
        return load("profiler.recorder").make_profiler(self.folder, self.setup, self.course, begun=self.begun)

    def make_debugger(self) -> Hook:
        course, data, chosen = self.course, self.setup.dataset, self.setup.chosen
        facts = load("debugger.course").Facts(
            counts=data.train.labels.bincount(minlength=len(data.classes)).tolist(),
            labels=data.valid.labels,
            answers=lambda: course.judge.logits,
            batch_size=chosen.batch_size,
            steps=course.batches.steps,
            epochs=chosen.epochs,
            classes=data.classes,
        )
        hook: Hook = load("debugger.watch").make_debugger(
            self.folder, self.folder.parent.parent, facts, stop_on_rules=chosen.stop_on_rules
        )
        return hook

    def measure_baseline(self) -> None:
        """Measure it once: a resumed job may have it from before."""
        if not (self.folder / "baseline.json").exists():
            self.attempt("baseline", self.make_baseline)

    def make_baseline(self) -> None:
        baseline, same = load("learning.baseline"), self.shipped.inputs == self.setup.inputs
        answer = partial(baseline.answer_with, self.shipped) if same else self.course.judge.answer
        before = self.answer_before()
        found = baseline.measure_baseline(self.setup, self.folder, answer, before, stop_asked=self.stop_asked)
        if found and self.debugger:
            self.debugger.compare(found)

    def answer_before(self) -> Any:
        """Return what gives the logits of what ships as it was before it was refitted; None if it was not."""
        if self.before is self.shipped:
            return None
        return partial(load("learning.baseline").answer_with, self.before)

    def attempt(self, what: str, act: Callable[[], Result]) -> Result | None:
        """Run a part; if it breaks, log that and go on."""
        begun = time.monotonic()
        try:
            result = act()
        except Exception as error:  # noqa: BLE001  the training is worth more than reports about it
            log(f"WARNING: no {what}: {type(error).__name__}: {error}")
            return None
        log(f"{what}: {time.monotonic() - begun:.1f} s")
        return result


def load(name: str) -> Any:
    """Import a module of this program late."""
    return importlib.import_module(name)


def install_missing(wanted: Mapping[str, str], environ: Mapping[str, str], folder: Path) -> None:
    """Install missing packages into `folder`, which goes last on the path; go on without them if that fails."""
    missing = [requirement for module, requirement in wanted.items() if not is_there(module)]
    if not missing or environ.get(SWITCH) == "0":
        return
    if not answers(find_index(environ)):
        log(f"WARNING: no package index answers, so the training goes on without {', '.join(missing)}")
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        # These two pin conflicting versions, so they are installed without their dependencies.
        pinned = ("smdebug", "pyinstrument")
        plain = [requirement for requirement in missing if not requirement.startswith(pinned)]
        bare = [requirement for requirement in missing if requirement not in plain]
        for options, requirements in (([], plain), (["--no-deps"], bare)):
            if requirements:
                target = [*options, "--target", str(folder), *requirements]
                subprocess.run([*command, *target], check=True, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        log(f"WARNING: {', '.join(missing)} could not be installed ({type(error).__name__})")
    sys.path.append(str(folder))
    importlib.invalidate_caches()


def find_index(environ: Mapping[str, str]) -> str:
    """Return the address of the index that pip asks: its variable's, its configuration's, or its own default."""
    if named := environ.get("PIP_INDEX_URL"):
        return named
    try:
        configuration = load("pip._internal.configuration").Configuration(isolated=False)
        configuration.load()
        return str(dict(configuration.items()).get("global.index-url") or load("pip._internal.models.index").PyPI.url)
    except Exception:  # noqa: BLE001  these are not pip's public names: without them pip is simply tried
        return ""


def answers(index: str, seconds: float = INDEX_SECONDS) -> bool:
    """Return whether an index answers soon; one whose address is not known may. Name resolution has no timeout."""
    heard = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(index, timeout=seconds).close()  # noqa: S310  the address is pip's own
        except urllib.error.HTTPError:
            pass  # it answers, if only with a refusal
        except (OSError, ValueError):
            return
        heard.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return not index or heard.is_set()


def is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
