"""Run small pipelines in a local cloud, and kill -9 the cloud, a job or an endpoint at seeded random moments.

    with TemporaryDirectory() as folder: Ordeal(Path(folder), seed=7).endure(kills=10, at_once=2)

The seed decides the waits and the targets. What a moment meets is up to the machine: the same seed finds a fault again
often, not always. The state folder of an ordeal that fails is kept and named.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.end_to_end.kills.judging import (
    TRIALS,
    find_broken_files,
    find_broken_objects,
    find_repetitions,
    find_unexplained,
)
from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import build_colour_zip, draw_test_picture

ENDED = ("deployed", "declined", "undecided", "failed", "rejected", "stopped", "superseded")
RECIPE: dict[str, Any] = {
    "image_size": 32,
    "pretrained": "none",
    "epochs": 2,
    "trials": TRIALS,
    "parallel_trials": 2,
    "ranges": {"batch_size": [16]},
    "promotion": {"when": "always"},  # two epochs on a few images show nothing of a model
}
# A job is killed less often: a run that loses both of its trials ends there.
TARGETS = ("cloud", "cloud", "cloud", "endpoint", "endpoint", "job")
GONE_SECONDS = 15.0
END_SECONDS = 240.0


@dataclass
class Ordeal:
    """One cloud in `folder`, and what became of it. `say` is told every kill.

    `patience` is how long a target is waited for that does not run now, while a run is under way that may begin it.
    Then the cloud is killed instead. Of three endpoints two are killed while they serve, since one that dies as it
    starts ends its run.
    """

    folder: Path
    seed: int
    longest_wait: float = 8.0
    patience: float = 20.0
    say: Callable[[str], None] = lambda _: None
    killed: Counter[str] = field(default_factory=Counter)
    hit: set[str] = field(default_factory=set)  # jobs/NAME and endpoints/NAME whose processes were killed
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def endure(self, kills: int, at_once: int, pipelines: int | None = None) -> None:
        """Kill so often, with so many pipelines under way at once, and judge what is left. Raises AssertionError.

        `pipelines` limits how many there are altogether; otherwise a new one begins for each that has ended.
        """
        dice = random.Random(self.seed)
        with self._running() as cloud:
            for _ in range(kills):
                self._keep_busy(cloud, at_once, pipelines)
                time.sleep(dice.uniform(0.2, self.longest_wait))
                self._strike(cloud, dice.choice(TARGETS), may_start=dice.random() < 1 / 3)
            self._settle(cloud)
            self._judge(cloud)
            processes = cloud.list_processes()
            cloud.interrupt()
            assert_gone(processes)
        assert find_broken_files(self.folder) == []

    @contextmanager
    def _running(self) -> Iterator[LocalCloud]:
        cloud = LocalCloud(self.folder)
        cloud.start()
        try:
            yield cloud
        finally:
            if cloud.process is not None and cloud.process.poll() is None:
                cloud.kill()

    def _keep_busy(self, cloud: LocalCloud, at_once: int, pipelines: int | None) -> None:
        """Upload datasets until so many runs are under way."""
        self._look(cloud)
        busy = sum(run["status"] not in ENDED for run in self.runs.values())
        for _ in range(at_once - busy):
            if pipelines is not None and len(self.runs) >= pipelines:
                return
            name = f"kill-{len(self.runs) + 1}"
            cloud.upload(f"{name}.json", json.dumps(RECIPE).encode())
            cloud.upload(f"{name}.zip", build_colour_zip())
            self.runs[name] = {"dataset": name, "status": "uploaded"}

    def _look(self, cloud: LocalCloud) -> None:
        """Read the newest run of every dataset whose run is not known to have ended."""
        for name in [name for name, run in self.runs.items() if run["status"] not in ENDED]:
            self.runs[name] = next(iter(cloud.list_runs(name)), self.runs[name])

    def _strike(self, cloud: LocalCloud, target: str, *, may_start: bool) -> None:
        victim = self._find(cloud, target, may_start=may_start)
        if victim is None:
            self._kill_cloud(cloud)
            return
        place = folder_of(victim).removeprefix(f"{self.folder}/")
        self.killed[target] += 1
        self.hit.add("/".join(place.split("/")[:2]))
        self.say(f"{victim.pid} of {place}")
        with suppress(psutil.NoSuchProcess):
            victim.kill()

    def _kill_cloud(self, cloud: LocalCloud) -> None:
        self.killed["cloud"] += 1
        self.say("cloud")
        processes = cloud.list_processes()
        cloud.kill()
        assert_gone(processes)
        cloud.start()

    def _find(self, cloud: LocalCloud, target: str, *, may_start: bool) -> psutil.Process | None:
        """Return a process of the target, waiting for one for a while; None stands for the cloud itself."""
        deadline = time.monotonic() + self.patience
        while target != "cloud" and time.monotonic() < deadline:
            leaders = list_leaders(cloud, self.folder / f"{target}s")
            assert_alone(leaders)
            if target == "endpoint" and not may_start:
                leaders = [each for each in leaders if serves(cloud, folder_of(each))]
            if leaders:
                return leaders[0]
            if not self._may_begin(cloud, target):
                return None
            time.sleep(0.2)
        return None

    def _may_begin(self, cloud: LocalCloud, target: str) -> bool:
        """Return whether a run is under way, or an endpoint's server that died is being started again."""
        self._look(cloud)
        statuses = {run["status"] for run in self.runs.values()}
        return bool(statuses - set(ENDED)) or (target == "endpoint" and "deployed" in statuses)

    def _settle(self, cloud: LocalCloud) -> None:
        """Wait until every run has ended, and every model that is deployed answers."""

        def is_settled() -> bool | None:
            self._look(cloud)
            return all(run["status"] in ENDED for run in self.runs.values()) or None

        wait_until(is_settled, within=END_SECONDS, what=f"every run ends: {self.runs}", every=0.5)
        for name in [name for name, run in self.runs.items() if run["status"] == "deployed"]:
            wait_until(lambda name=name: answers(cloud, name), within=60, what=f"the model {name} answers", every=0.5)

    def _judge(self, cloud: LocalCloud) -> None:
        faults = find_unexplained(list(self.runs.values()), self.hit)
        for run in self.runs.values():
            faults += find_repetitions(cloud, run, self.killed.total())
        faults += find_broken_objects(cloud)
        assert faults == [], "\n".join(faults)


def folder_of(process: psutil.Process) -> str:
    with suppress(psutil.Error, OSError):
        return process.cwd()
    return "?"


def list_leaders(cloud: LocalCloud, folder: Path) -> list[psutil.Process]:
    """Return the processes that work below a folder and lead their group: one for each job or model server."""
    found = []
    for process in cloud.list_processes()[1:]:
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder) and os.getpgid(process.pid) == process.pid:
                found.append(process)
    return found


def serves(cloud: LocalCloud, folder: str) -> bool:
    """Return whether the endpoint of a server's folder has come into service before."""
    name = Path(folder).parents[1].name
    with suppress(cloud.sagemaker.exceptions.ClientError):
        return bool(cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService")
    return False


def assert_alone(leaders: list[psutil.Process]) -> None:
    """No job and no model server has two processes."""
    folders = Counter(folder_of(each) for each in leaders)
    assert [folder for folder, count in folders.items() if count > 1 and folder != "?"] == []


def assert_gone(processes: list[psutil.Process]) -> None:
    """Nothing that the cloud started outlives it. A zombie has ended: whoever inherited it has yet to notice."""
    deadline = time.monotonic() + GONE_SECONDS
    while (alive := [process for process in processes if is_running(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == []


def is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def answers(cloud: LocalCloud, model: str) -> bool | None:
    """Return True if the model answers a prediction, else None."""
    try:
        response = cloud.api.post(
            f"/models/{model}/predict", content=draw_test_picture("red"), headers={"Content-Type": "image/png"}
        )
    except httpx.TransportError:
        return None
    return True if response.status_code == 200 else None
