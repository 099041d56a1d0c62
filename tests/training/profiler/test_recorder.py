"""The profiler of a real, tiny training, and the files that it writes."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from learning.engine import Hook, Stopped
from profiler.recorder import make_profiler
from profiler.rules import RULES
from profiler.system_metrics import Machine, SystemSampler, read_events
from profiler.timeline import PHASES, Timeline, choose_evenly, describe
from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

from tests.training.profiled import set_up, train


class Slow(Hook):
    """A hook that is slow, and may end the training."""

    def __init__(self, stop_at: int = 999) -> None:
        self.left = stop_at

    def on_step(self, epoch: int, step: int) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the job folder of a profiled training whose images one worker decoded."""
    base = tmp_path_factory.mktemp("profiled")
    setup, course = set_up(base, cache="none")
    begun = time.time() - 21 * 60
    profiler = make_profiler(setup.job.places.checkpoints, setup, course, begun=begun, interval=0.1)
    train(course, [profiler, Slow()])
    return setup.job.places.checkpoints


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_smdebug_reads_the_samples(folder: Path) -> None:
    """SageMaker's own reader finds every core, memory and rates, at the times of the training."""
    reader = LocalSystemMetricsReader(str(folder / "profile"))
    found = reader.get_events(0, time.time() * 1e6)
    assert {event.name for event in found if event.dimension == "CPUUtilization"} == {
        f"cpu{core}" for core in range(psutil.cpu_count())
    }
    names = {event.name for event in found}
    assert {"MemoryUsedPercent", "IOPS", "ReadThroughputInBytesPerSecond", "ReceiveBytesPerSecond"} <= names
    assert all(0 <= event.value <= 100 for event in found if event.type in ("cpu", "memory"))
    assert len(found) == len(list(read_events(folder / "profile")))
    assert {event.node_id for event in found} == {"algo-1"}


def test_smdebug_makes_a_frame_of_the_samples(folder: Path) -> None:
    """PandasFrame, on which the reports of SageMaker are built, reads the same."""
    frame = PandasFrame(str(folder / "profile")).get_all_system_metrics()
    assert set(frame["type"]) >= {"cpu", "memory"}
    assert set(frame["nodeID"]) == {"algo-1"}


def test_the_timeline_says_where_a_step_goes(folder: Path) -> None:
    """There are six phases whose shares add up to one; the time of other hooks is attributed to them."""
    timeline = read(folder / "profile/timeline.json")
    assert tuple(timeline["phases"]) == PHASES
    assert sum(phase["share"] for phase in timeline["phases"].values()) == pytest.approx(1, abs=1e-3)
    assert timeline["phases"]["hook"]["mean_ms"] > 20
    assert all(timeline["phases"][name]["mean_ms"] > 0 for name in PHASES)
    assert timeline["count"] == len(timeline["steps"]) == 2 * 9
    assert timeline["images_per_second"] > 0


def test_operators_and_a_trace_of_a_few_steps(folder: Path) -> None:
    """The convolutions are among the operators, and a browser's viewer can open the trace."""
    content = read(folder / "profile/operators.json")
    assert any("convolution" in row["name"] for row in content["operators"][:5])
    assert [row["share"] for row in content["operators"]] == sorted(
        (row["share"] for row in content["operators"]), reverse=True
    )
    with gzip.open(folder / "profile/trace.json.gz", "rt") as file:
        trace = json.load(file)
    assert any(event["ph"] == "X" and event["name"].startswith("aten::conv") for event in trace["traceEvents"])


def test_every_rule_judged_the_run(folder: Path) -> None:
    """A job that started slowly and decodes with one worker is reported; rules about missing GPUs do not trigger."""
    reports = {path.stem: read(path) for path in (folder / "profiler-reports").iterdir()}
    assert set(reports) == set(RULES)
    triggered = {name for name, report in reports.items() if report["RuleTriggered"]}
    starved = {"Dataloader"} if psutil.cpu_count() > 1 else set()
    assert triggered - {"StepOutlier"} == {"MaxInitializationTime"} | starved
    assert reports["LowGPUUtilization"]["Datapoints"] == 0
    assert "CPU" in reports["OverallSystemUsage"]["Details"]


def test_looking_on_changes_nothing(tmp_path: Path) -> None:
    """A profiled training learns the same as an unprofiled one."""
    setup, course = set_up(tmp_path / "seen")
    profiler = make_profiler(tmp_path / "job", setup, course, begun=time.time(), interval=0.05)
    seen = train(course, [profiler])
    unseen = train(set_up(tmp_path / "unseen")[1], [])
    assert [record["valid"] for record in seen] == [record["valid"] for record in unseen]


def test_a_stopped_training_leaves_its_profile(tmp_path: Path) -> None:
    """What was seen until then is written, and all recording has stopped."""
    setup, course = set_up(tmp_path)
    profiler = make_profiler(tmp_path / "job", setup, course, begun=time.time(), interval=0.05)
    with pytest.raises(Stopped):
        train(course, [profiler, Slow(stop_at=5)])
    assert read(tmp_path / "job/profile/timeline.json")["count"] >= 4
    assert (tmp_path / "job/profile/trace.json.gz").stat().st_size > 0
    assert not profiler.sampler.thread.is_alive()
    assert profiler.timeline.handles == []


def test_a_profile_that_cannot_be_written_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A training is worth more than its profile: it continues, and the log says what is missing."""
    setup, course = set_up(tmp_path)
    (tmp_path / "job").write_text("a file where a folder should be")
    profiler = make_profiler(tmp_path / "job", setup, course, begun=time.time(), interval=0.05)
    assert len(train(course, [profiler])) == 2
    assert "WARNING: a part of the profile is missing" in capsys.readouterr().out


class Counters:
    """A stand-in for psutil on a machine with one core, whose disk and network have counted so far."""

    def __init__(self) -> None:
        self.total = 0

    def cpu_times_percent(self, percpu: bool) -> list[SimpleNamespace]:
        return [SimpleNamespace(idle=70.0, iowait=20.0)]

    def virtual_memory(self) -> SimpleNamespace:
        return SimpleNamespace(percent=33.0)

    def disk_io_counters(self) -> SimpleNamespace:
        self.total += 100
        names = ("read_count", "write_count", "read_bytes", "write_bytes")
        return SimpleNamespace(**dict.fromkeys(names, self.total))

    def net_io_counters(self) -> SimpleNamespace:
        return SimpleNamespace(bytes_recv=self.total, bytes_sent=self.total)


def test_samples_are_shares_and_rates() -> None:
    """Waiting for a disk is not work, and counters become their growth per second."""
    times = iter((10.0, 12.0))
    machine = Machine(Counters(), lambda: next(times))
    assert [name for _, name, _, _ in machine()] == ["MemoryUsedPercent", "cpu0", "cpu0"]
    values = {(name, dimension): value for _, name, dimension, value in machine()}
    assert values["cpu0", "CPUUtilization"] == 10
    assert values["cpu0", "I/OWaitPercentage"] == 20
    assert values["IOPS", ""] == 100
    assert values["ReceiveBytesPerSecond", "Algorithm"] == 50


def test_each_minute_has_its_file(tmp_path: Path) -> None:
    """Files lie in the folder of their hour (UTC), named by their minute; a line that was cut off is skipped."""
    moments = iter((1591748109.25, 1591748399.5, 1591748400.0))
    sampler = SystemSampler(tmp_path, lambda: [("memory", "MemoryUsedPercent", "", 33.333)], now=lambda: next(moments))
    for _ in range(3):
        sampler.sample()
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert files == [
        "system/incremental/2020061000/1591748100.algo-1.json",
        "system/incremental/2020061000/1591748340.algo-1.json",
        "system/incremental/2020061000/1591748400.algo-1.json",
    ]
    (tmp_path / files[-1]).open("a").write('{"Type":"mem')
    assert [event["Value"] for event in read_events(tmp_path)] == [33.33] * 3


def test_no_moment_of_a_step_is_lost() -> None:
    """Marks cut a step into phases without gaps, and the time between two steps belongs to the hooks."""
    ticks = iter(range(100))
    timeline = Timeline(clock=lambda: float(next(ticks)))
    for phase in ("begin", "data", "copy", "data", "hook", "forward", "backward", "optimizer"):
        timeline.mark(phase)
    timeline.end_step()
    timeline.mark("begin")
    assert timeline.steps == [{"data": 2, "copy": 1, "forward": 1, "backward": 1, "optimizer": 2, "hook": 2}]


def test_a_timeline_of_nothing_is_one() -> None:
    """A training without a step has phases of no length."""
    content = describe([], [])
    assert content["phases"]["data"] == {"mean_ms": 0.0, "p95_ms": 0.0, "share": 0.0}
    assert (content["steps"], content["images_per_second"]) == ([], 0.0)
    assert choose_evenly(10, 4) == [0, 2, 5, 7]
