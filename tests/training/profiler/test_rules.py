"""The profiler's rules: each with a recording that triggers it, and a similar one that does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiler.rules import RULES, Recording, judge_all, judge_by, write_reports
from profiler.system_metrics import make_event
from profiler.timeline import PHASES
from smdebug_rulesconfig import profiler_rules as aws

SAMPLES = 600
DIMENSIONS = {
    "gpu": ("gpu", "GPUUtilization"),
    "held": ("gpu", "GPUMemoryUtilization"),
    "cpu": ("cpu", "CPUUtilization"),
    "wait": ("cpu", "I/OWaitPercentage"),
}


def trace(columns: Mapping[str, Sequence[float] | float], **more: Any) -> Recording:
    """Return a recording of five minutes at 500 ms, of columns gpu0, held0 (its memory), cpu1, wait1 (for a disk) …"""
    events = []
    for name, values in columns.items():
        kind, dimension = DIMENSIONS[name[:-1]]
        for number in range(SAMPLES):
            value = values if isinstance(values, int | float) else values[number]
            events.append(make_event(kind, f"{kind}{name[-1]}", dimension, value, 1.7e9 + number / 2))
    return Recording(events=events, **more)


def step(seconds: float, data: float = 0.01) -> dict[str, float]:
    return {**dict.fromkeys(PHASES, 0.0), "data": data, "forward": seconds - data}


BUSY = {"gpu0": 95, "held0": 80, "cpu0": 40, "wait0": 1}
IDLE = {**BUSY, "gpu0": 3}
FITS = [0, 0, 0, 98, 98, 98, 98, 98, 98, 98] * (SAMPLES // 10)
LEAK = [20 + 7 * (number // 10) if number < 100 else 90 for number in range(SAMPLES)]
GROWN = [20 + number / 20 for number in range(SAMPLES)]
STEADY = [step(0.1 + 0.001 * (number % 7)) for number in range(400)]
SPIKES = [step(2.0 if number % 30 == 29 else 0.1) for number in range(400)]
# The rule; what triggers it; what does not.
PAIRS = {
    "hardly used": ("LowGPUUtilization", trace(IDLE), trace(BUSY)),
    "used by fits": ("LowGPUUtilization", trace({**BUSY, "gpu0": FITS}), trace({**BUSY, "gpu0": 75})),
    "memory leaks": ("GPUMemoryIncrease", trace({**BUSY, "held0": [*LEAK[60:], *LEAK[:60]]}), trace(BUSY)),
    "memory grows": ("GPUMemoryIncrease", trace({**BUSY, "held0": [0] * 300 + [50] * 300}), trace({"held0": GROWN})),
    "cores busy": ("CPUBottleneck", trace({**IDLE, "cpu1": 99}), trace({**BUSY, "cpu1": 99})),
    "cores busy now and then": (
        "CPUBottleneck",
        trace({**IDLE, "cpu0": [99, 99, 5] * 200}),
        trace({**IDLE, "cpu0": [99, 5, 5] * 200}),
    ),
    "disk slow": ("IOBottleneck", trace({**IDLE, "wait0": 80}), trace({**IDLE, "wait0": 40})),
    "small batches": ("BatchSize", trace({**BUSY, "gpu0": 30, "held0": 10}), trace({**BUSY, "gpu0": 30})),
    "one worker": (
        "Dataloader",
        Recording(steps=STEADY, cores=4, workers=1),
        Recording(steps=STEADY, cores=4, workers=4),
    ),
    "crowd of workers": (
        "Dataloader",
        Recording(steps=STEADY, cores=2, workers=5),
        Recording(steps=STEADY, cores=2, workers=None),
    ),
    "steps that stall": ("StepOutlier", Recording(steps=SPIKES), Recording(steps=STEADY)),
    "few outliers": ("StepOutlier", Recording(steps=SPIKES), Recording(steps=SPIKES[:300])),
    "slow start": (
        "MaxInitializationTime",
        Recording(begun=0, first_step=21 * 60, seen=30 * 60),
        Recording(begun=0, first_step=19 * 60, seen=30 * 60),
    ),
    "no step at all": (
        "MaxInitializationTime",
        Recording(begun=0, first_step=None, seen=21 * 60),
        Recording(begun=0, first_step=None, seen=60),
    ),
    "one GPU works": (
        "LoadBalancing",
        trace({"gpu0": 95, "gpu1": 5}),
        trace({"gpu0": [95, 85] * 300, "gpu1": [85, 95] * 300}),
    ),
}


@pytest.mark.parametrize(("name", "bad", "good"), PAIRS.values(), ids=PAIRS)
def test_a_rule_finds_what_it_is_for(name: str, bad: Recording, good: Recording) -> None:
    """It triggers on the faulty recording and says where, and does not trigger on the other."""
    found, passed = judge_by(name, bad), judge_by(name, good)
    assert (found["RuleTriggered"], passed["RuleTriggered"]) == (1, 0)
    assert found["Violations"] > 0
    assert found["Details"]


def test_the_table_is_that_of_aws() -> None:
    """Names and parameters, with their defaults, are those of AWS's own package (it lacks OverallFrameworkMetrics)."""
    assert len(RULES) == 11
    for name, (_, parameters) in RULES.items():
        theirs = getattr(aws, name, None) or getattr(aws.rules, name, None)
        if theirs is None:
            assert name == "OverallFrameworkMetrics"
            continue
        known = {key: value for key, value in theirs().rule_parameters.items() if key in parameters}
        assert known == parameters


def test_usage_is_summed_up() -> None:
    """OverallSystemUsage gives percentiles over all cores, and never triggers; without samples it has nothing."""
    cores = {"cpu0": 20, "cpu1": [60] * 300 + [80] * 300}
    report = judge_by("OverallSystemUsage", trace({**BUSY, **cores}))
    assert report["Details"]["CPU"] == {"max": 50, "p99": 50, "p95": 50, "p50": 45, "min": 40}
    assert set(report["Details"]) == {"CPU", "GPU", "GPU memory", "I/O"}
    assert (report["RuleTriggered"], report["Datapoints"]) == (0, SAMPLES)
    assert judge_by("OverallSystemUsage", Recording())["Details"] == {}


def test_phases_are_summed_up() -> None:
    """OverallFrameworkMetrics gives each phase's share of the steps in per cent, and never triggers."""
    report = judge_by("OverallFrameworkMetrics", Recording(steps=[step(0.1, data=0.025)] * 4))
    assert report["Details"]["phase"]["data"] == 25
    assert sum(report["Details"]["phase"].values()) == pytest.approx(100)
    assert (report["RuleTriggered"], report["Datapoints"]) == (0, 4)
    assert judge_by("OverallFrameworkMetrics", Recording())["Details"] == {}


def test_a_rule_waits_before_it_judges() -> None:
    """A GPU is idle while a job starts: the first tenth of a short recording, or as configured, is skipped."""
    starting = trace({"gpu0": [0] * 60 + [95] * 540})
    assert judge_by("LowGPUUtilization", starting)["RuleTriggered"] == 0
    assert judge_by("LowGPUUtilization", starting, patience=0)["RuleTriggered"] == 1
    assert "patience:60" in judge_by("LowGPUUtilization", starting)["RuleParameters"].split("\n")


def test_result_files_have_the_members_of_aws(tmp_path: Path) -> None:
    """profiler-reports/RULE.json of every rule has the form that AWS's profiler report reads."""
    write_reports(tmp_path, trace(IDLE, steps=STEADY))
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "profiler-reports").iterdir()}
    assert set(written) == set(RULES)
    members = {"RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"}
    assert all(set(report) == members for report in written.values())
    assert written["LowGPUUtilization"]["Details"]["gpu0"] == {"gpu_95": 3, "gpu_5": 3}


@given(st.lists(st.lists(st.floats(0, 100), max_size=5), max_size=5), st.lists(st.floats(0.001, 10), max_size=5))
def test_no_recording_breaks_a_rule(samples: list[list[float]], lasted: list[float]) -> None:
    """However little was recorded, every rule returns a result that is valid JSON."""
    names = ("GPUUtilization", "GPUMemoryUtilization", "CPUUtilization", "I/OWaitPercentage", "Algorithm")
    events = [
        make_event("gpu", "gpu0", name, value, float(moment))
        for moment, values in enumerate(samples)
        for name, value in zip(names, values, strict=False)
    ]
    reports = judge_all(Recording(events=events, steps=[step(one, data=0) for one in lasted], workers=1))
    assert json.loads(json.dumps(reports, allow_nan=False)) == reports
