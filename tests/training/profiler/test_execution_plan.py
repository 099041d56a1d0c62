"""The execution plan: what is tried, what is taken, what is put back, and what it reports."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from debugger.watch import make_debugger
from hypothesis import given
from hypothesis import strategies as st
from images.data import Batches, hold_split, read_dataset
from images.early import MEMORY_LIMIT, choose_stream
from job.settings import Hyperparameters
from learning.preparation import Course, Setup
from learning.steps.replay import REAL_STEPS
from profiler.execution_plan import (
    Budget,
    Candidate,
    choose_plan,
    describe_advice,
    list_candidates,
    list_device_candidates,
)
from profiler.observing import Observer
from profiler.probing import Probe, Snapshot, compare_interleaved, count_cores, is_worth_taking, make_steps, weigh
from profiler.recorder import make_profiler

from tests.training.profiled import Tape, set_up, train
from tests.training.tiny import encode, make_zip, shapes_zip, smooth


class Clock:
    """A clock that advances only when told to: no test here depends on how busy the machine is."""

    def __init__(self, course: Course, forward: float = 0.1) -> None:
        self.now = 0.0
        course.learner.network.register_forward_hook(lambda *_: self.pass_by(forward))

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Sluggish:
    """A loader that is slow, like a disk or a decoder, until it is told to hurry."""

    def __init__(self, course: Course, clock: Clock, seconds: float) -> None:
        self.fetch, self.clock, self.seconds, self.hurries = course.batches.fetch, clock, seconds, False
        course.batches.fetch = self

    def __call__(self, chosen: torch.Tensor) -> torch.Tensor:
        self.clock.pass_by(0 if self.hurries else self.seconds)
        return self.fetch(chosen)

    def candidate(self, *, helps: bool = True) -> Candidate:
        name = "hurries" if helps else "does_nothing"
        switch = partial(setattr, self, name)
        return Candidate(name, "true", ("data",), lambda: switch(True), lambda: switch(False))


def everything(setup: Setup, course: Course) -> list[Any]:
    """Return everything that a step would change, as comparable values."""
    learner = course.learner
    weights = [value.clone() for value in setup.network.state_dict().values()]
    moments = [value for state in learner.optimizer.state.values() for value in state.values()]
    chance = [torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1].astype(np.int64))]
    tensors = [value.double().flatten() for value in (*weights, *moments, *chance)]
    return [torch.cat(tensors).tolist(), learner.schedule.last_epoch, random.getstate(), setup.network.training]


@pytest.fixture(scope="module")
def starved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Sluggish, bool]:
    """Return the plan of a training that waits for its data: (plan, job folder, loader, whether all was as before)."""
    setup, course = set_up(tmp_path_factory.mktemp("starved"), epochs=20)
    clock, folder = Clock(course), setup.job.places.checkpoints
    loader = Sluggish(course, clock, 0.3)
    before, known = everything(setup, course), [loader.candidate(helps=False), loader.candidate()]
    plan = choose_plan(setup, folder, course, candidates=known, clock=clock)
    return plan, folder, loader, everything(setup, course) == before


def test_what_helps_is_taken(starved: tuple[dict[str, Any], Path, Sluggish, bool]) -> None:
    """Of two settings, the one that shortens the step is taken and stays; the other is measured and put back."""
    plan, _, loader, _ = starved
    assert plan["chosen"] == {"hurries": "true"}
    assert loader.hurries is True
    assert [(row["setting"], row["taken"]) for row in plan["candidates"]] == [
        ("does_nothing", False),
        ("hurries", True),
    ]
    assert (plan["candidates"][1]["before_ms"], plan["candidates"][1]["after_ms"]) == (400, 100)
    assert [plan[when]["phases"]["data"]["share"] for when in ("before", "after")] == [0.75, 0]
    assert [plan[when]["images_per_second"] for when in ("before", "after")] == [20, 80]
    assert plan["verdict"] == "A step is 4.0 times as fast as before: hurries true."


def test_nothing_is_learnt_from_a_probe(starved: tuple[dict[str, Any], Path, Sluggish, bool]) -> None:
    """Weights, statistics, optimizer, schedule and every source of randomness are as before."""
    assert starved[3]


def test_the_plan_is_kept_and_taken_again(starved: tuple[dict[str, Any], Path, Sluggish, bool], tmp_path: Path) -> None:
    """It lies in the job's folder; a resumed job takes it without measuring."""
    plan, folder, _, _ = starved
    assert json.loads((folder / "execution_plan.json").read_text()) == plan
    setup, course = set_up(tmp_path)
    loader = Sluggish(course, Clock(course), 0.0)
    assert choose_plan(setup, folder, course, candidates=[loader.candidate()]) == plan
    assert loader.hurries is True


def test_a_healthy_training_is_left_alone(tmp_path: Path) -> None:
    """When its images are decoded there is nothing to gain, and finding that out costs little."""
    setup, course = set_up(tmp_path, batch_size=24, epochs=80)
    clock = Clock(course)
    known = [*list_candidates(setup, course), Sluggish(course, clock, 0.001).candidate()]
    plan = choose_plan(setup, tmp_path / "job", course, candidates=known, clock=clock)
    assert (plan["chosen"], plan["candidates"], plan["recommendations"]) == ({}, [], [])
    assert plan["verdict"] == "Profiling found no faster setting."
    assert plan["before"] == plan["after"]
    assert plan["probed_steps"] <= 0.03 * plan["steps"]


def test_a_failing_probe_leaves_the_training_as_it_was(tmp_path: Path) -> None:
    """An error is raised once everything has been put back."""
    setup, course = set_up(tmp_path, epochs=80)
    fetch, calls = course.batches.fetch, iter(range(99))

    def fail(chosen: torch.Tensor) -> torch.Tensor:
        if next(calls) == 1:
            raise OSError("the disk is gone")
        return fetch(chosen)

    course.batches.fetch = fail
    before = everything(setup, course)
    with pytest.raises(OSError, match="gone"):
        choose_plan(setup, tmp_path / "job", course)
    assert everything(setup, course) == before
    assert not (tmp_path / "job").exists()


def test_a_stop_ends_the_probe(tmp_path: Path) -> None:
    """A job that is asked to stop is not held up: everything is put back, nothing is kept, and no plan is written."""
    setup, course = set_up(tmp_path, epochs=20)
    clock, answers = Clock(course), iter([False, False, True])
    loader, before = Sluggish(course, clock, 0.3), everything(setup, course)
    options = {"candidates": [loader.candidate()], "clock": clock, "stop_asked": lambda: next(answers)}
    assert choose_plan(setup, tmp_path / "job", course, **options) is None
    assert everything(setup, course) == before
    assert loader.hurries is False
    assert not (tmp_path / "job").exists()


def test_settings_are_compared_in_turn() -> None:
    """A B A B, so that drift affects both; at the end the setting is as before."""
    seen: list[str] = []
    state = ["A"]

    def measure() -> Any:
        seen.append(state[0])
        return Probe(({"data": 1.0 if state[0] == "A" else 0.5},), (8,), 50.0)

    before, after = compare_interleaved(partial(state.__setitem__, 0, "B"), partial(state.__setitem__, 0, "A"), measure)
    assert "".join(seen) == "ABAB"
    assert (before.seconds, after.seconds, state) == ([1.0] * 2, [0.5] * 2, ["A"])


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        ([1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5], True),
        ([1.0, 1.0, 1.0, 1.0], [0.96, 0.96, 0.96, 0.96], False),
        ([1.0, 1.0, 1.0, 1.0], [1.5, 1.5, 1.5, 1.5], False),
        ([0.7, 1.3, 0.6, 1.4], [0.8, 0.9, 0.85, 0.95], False),
        ([1.0, 1.02, 0.99, 1.01], [0.90, 0.91, 0.89, 0.90], True),
    ],
)
def test_a_gain_must_exceed_five_per_cent_and_the_noise(before: list[float], after: list[float], taken: bool) -> None:
    """A tenth is taken if steps are even, and counts as nothing if they vary by half."""
    assert is_worth_taking(*weigh(before, after)) is taken


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.lists(st.floats(0.01, 1), min_size=1, max_size=8))
def test_a_slower_setting_is_never_taken(before: list[float], after: list[float]) -> None:
    """Whatever the noise, a setting that is taken was faster by more than five per cent on average."""
    if is_worth_taking(*weigh(before, after)):
        assert sum(after) / len(after) < 0.95 * sum(before) / len(before)


def test_probing_has_a_budget() -> None:
    """Three per cent of the training's seconds or one second, and more only where more could be gained."""
    budget = Budget(1000)
    budget.spend(20)
    assert budget.allows(10, 0.0)
    assert not budget.allows(11, 0.0)
    assert budget.allows(400, 0.4)
    assert Budget(4).allows(1.0, 0.0)
    assert not Budget(4).allows(1.1, 0.0)


def test_larger_batches_are_only_recommended() -> None:
    """The throughput of each size is reported; if larger ones gain nothing, nothing is recommended."""
    advice = describe_advice(8, {"8": 75.0, "16": 150.0, "32": 140.0})
    assert advice[0]["hyperparameter"] == "batch_size"
    assert advice[0]["throughput"] == {"8": 75.0, "16": 150.0, "32": 140.0}
    assert "batch_size 16 would train 100% more images a second than 8" in advice[0]["text"]
    assert describe_advice(8, {"8": 75.0, "16": 78.0}) == []


def test_a_step_with_much_overhead_brings_advice(tmp_path: Path) -> None:
    """With tiny images in tiny batches the optimizer takes much of each step, so larger batches are measured."""
    setup, course = set_up(tmp_path, batch_size=2, epochs=20)
    plan = choose_plan(setup, tmp_path / "job", course, candidates=[])
    assert list(plan["recommendations"][0]["throughput"]) == ["2", "4", "8"]
    assert setup.chosen.batch_size == 2


def train_observed(folder: Path, *, observed: bool, **chosen: Any) -> tuple[list[Any], Path]:
    """Train with profiler and debugger, and an observer of their steps or none. Return all that came of it."""
    setup, course = set_up(folder, shapes_zip({"train": 6, "valid": 3, "test": 3}), **chosen)
    job = setup.job.places.checkpoints
    profiler = make_profiler(job, setup, course, begun=0.0)
    hooks = [profiler, make_debugger(job, folder)]
    observer = Observer(setup, job, course, profiler.timeline)
    observer.others = hooks
    records = train(course, [*hooks, observer] if observed else hooks, epochs=1)
    told = [{split: record[split] for split in ("train", "valid")} for record in records]
    tensors = [path.name for path in sorted(job.rglob("*.tfevents"))]
    return [everything(setup, course), told, len(tensors), len(profiler.timeline.steps)], job


def test_a_training_with_nothing_to_try_is_described_by_its_own_steps(tmp_path: Path) -> None:
    """No step is made only to be timed, and the plan says so."""
    _, job = train_observed(tmp_path, observed=True, batch_size=4)
    plan = json.loads((job / "execution_plan.json").read_text())
    assert (plan["probed_steps"], plan["chosen"], plan["candidates"]) == (0, {}, [])
    assert plan["verdict"] == "Profiling found no faster setting."
    assert plan["before"] == plan["after"]
    assert plan["before"]["step_ms"] > 0


def test_larger_batches_are_timed_apart_from_the_training(tmp_path: Path) -> None:
    """Weights, losses, saved tensors and the timeline are those of a training in which nothing was measured."""
    small = {"batch_size": 2, "epochs": 80}
    found, job = train_observed(tmp_path / "observed", observed=True, **small)
    advice = json.loads((job / "execution_plan.json").read_text())["recommendations"]
    assert list(advice[0]["throughput"])[:2] == ["2", "4"]
    assert found == train_observed(tmp_path / "alone", observed=False, **small)[0]


def test_a_training_of_one_step_is_described_at_its_end(tmp_path: Path) -> None:
    """One that is stopped sooner leaves the plan to its next life."""
    setup, course = set_up(tmp_path, batch_size=72, epochs=1)
    profiler = make_profiler(tmp_path / "job", setup, course, begun=0.0)
    observer = Observer(setup, tmp_path / "job", course, profiler.timeline)
    observer.on_end()
    assert not (tmp_path / "job/execution_plan.json").exists()
    train(course, [profiler, observer], epochs=1)
    plan = json.loads((tmp_path / "job/execution_plan.json").read_text())
    assert (plan["steps"], plan["probed_steps"], plan["recommendations"]) == (1, 0, [])


PHOTOS = {
    f"{split}/{label}/{number}.jpg": encode(smooth(10 * number + ord(label) + len(split), 300, 200), "JPEG")
    for split in ("train", "valid", "test")
    for label in "ab"
    for number in range(3)
}


@pytest.fixture
def zips(tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """Reads the same zip twice: (decoded beforehand, as a stream)."""

    def both(content: bytes, size: int = 32) -> tuple[Any, Any]:
        path = tmp_path / "dataset.zip"
        path.write_bytes(content)
        options = {"threads": 2, "scratch": tmp_path}
        return (read_dataset(path, size, streams=lambda _, wish=wish: wish, **options) for wish in (False, True))

    return both


@pytest.mark.parametrize("content", [make_zip(PHOTOS), shapes_zip({"train": 9}), shapes_zip({"": 9}, seed=3)])
def test_a_stream_gives_what_a_cache_gives(zips: Callable[..., Any], content: bytes) -> None:
    """Splits, classes, warnings and pixels are equal, however many workers decode, kept or not."""
    cached, streamed = zips(content)
    rows = torch.arange(len(cached.train)).flip(0)
    for workers, keeping in ((1, False), (3, False), (1, True), (3, True), (1, False)):
        streamed.train.cache.workers, streamed.train.cache.keeping = workers, keeping
        for split in ("train", "valid", "test"):
            own, other = getattr(cached, split), getattr(streamed, split)
            assert torch.equal(own.images(torch.arange(len(own))), other.images(torch.arange(len(other))))
            assert (own.labels.tolist(), own.hashes) == (other.labels.tolist(), other.hashes)
        assert torch.equal(cached.train.images(rows), streamed.train.images(rows))
    assert (cached.classes, cached.warnings, cached.photographs) == (
        streamed.classes,
        streamed.warnings,
        streamed.photographs,
    )


def test_what_was_kept_is_not_decoded_again(zips: Callable[..., Any]) -> None:
    """The second use of an image needs no decoding, until keeping is switched off."""
    stream = list(zips(make_zip(PHOTOS)))[1].train
    rows, counts = torch.arange(len(stream)), []
    stream.cache.keeping = True
    for _ in range(2):
        stream.images(rows)
        counts.append(stream.cache.decoded)
    assert counts == [len(rows)] * 2


@pytest.mark.parametrize(
    ("cache", "profile", "needed", "streams"),
    [
        ("auto", True, MEMORY_LIMIT, False),
        ("auto", True, MEMORY_LIMIT + 1, True),
        ("auto", False, MEMORY_LIMIT + 1, False),
        ("memory", True, MEMORY_LIMIT + 1, False),
        ("none", False, 1, True),
    ],
)
def test_small_datasets_are_decoded_beforehand(cache: str, profile: bool, needed: int, streams: bool) -> None:
    """A profiled training streams what does not fit in memory; trials and small datasets start with a cache."""
    assert choose_stream(Hyperparameters(cache=cache, profile=profile), needed) is streams


@pytest.mark.parametrize("prefetch", [0, 1, 3, 50])
def test_what_is_fetched_ahead_is_the_same(prefetch: int) -> None:
    """Batches come in order, from any step on, and errors while fetching are raised."""

    def batches(fetch: Callable[[torch.Tensor], torch.Tensor]) -> Batches:
        options = {"batch_size": 4, "seed": 3, "device": torch.device("cpu")}
        return Batches(fetch, torch.arange(40), lambda inputs, _: inputs, **options)

    def values(source: Iterator[Any]) -> list[Any]:
        return [(inputs.tolist(), labels.tolist()) for inputs, labels in source]

    plain, ahead = batches(lambda chosen: chosen * 2), batches(lambda chosen: chosen * 2)
    ahead.prefetch = prefetch
    assert values(ahead.of_epoch(2, 3)) == values(plain.of_epoch(2, 3))
    ahead.fetch = lambda chosen: 1 // 0
    with pytest.raises(ZeroDivisionError):
        values(ahead.of_epoch(1))


def test_a_starved_training_is_fed(tmp_path: Path) -> None:
    """Large images are decoded one by one: the plan keeps what was decoded, and the step no longer waits."""
    setup, course = set_up(tmp_path, make_zip(PHOTOS), cache="none", epochs=40, batch_size=2)
    clock, stream = Clock(course), setup.dataset.train.cache
    load = stream.load

    def load_slowly(row: int, glance: int = 0) -> Any:
        clock.pass_by(0.3)
        return load(row, glance)

    stream.load = load_slowly
    plan = choose_plan(setup, tmp_path / "job", course, clock=clock)
    assert plan["chosen"] == {"cache": "decoded"}
    assert plan["rules"] == ["Dataloader"] * (count_cores() > 1)
    assert [plan[when]["phases"]["data"]["mean_ms"] for when in ("before", "after")] == [600, 0]
    assert stream.keeping is True
    images = setup.dataset.train.images(torch.arange(6))
    stream.keeping = False
    assert torch.equal(images, setup.dataset.train.images(torch.arange(6)))


def test_any_candidate_can_be_changed_back(tmp_path: Path) -> None:
    """Whatever is tried and put back leaves the steps unchanged, and changes no bit meanwhile."""
    setup, course = set_up(tmp_path, cache="none")
    snapshot = Snapshot(course.learner)

    def learn() -> list[float]:
        snapshot.restore()
        make_steps(course.learner, course.batches, 2)
        return [float(value.double().sum()) for value in setup.network.state_dict().values()]

    expected = learn()
    known = list_candidates(setup, course)
    assert {"cache", "prefetch"} <= {candidate.setting for candidate in known}
    for candidate in known:
        candidate.change()
        assert learn() == expected
        candidate.undo()
        assert learn() == expected


def test_what_a_gpu_begins_with_can_be_taken_back(tmp_path: Path) -> None:
    """Replayed steps and images on the device: each may be switched off, and no bit of the weights changes."""
    setup, course = set_up(tmp_path)
    learner, batches = course.learner, course.batches
    snapshot = Snapshot(learner)

    def learn() -> list[float]:
        snapshot.restore()
        make_steps(learner, batches, REAL_STEPS + 3)
        return [float(value.double().sum()) for value in setup.network.state_dict().values()]

    expected = learn()
    batches.held = hold_split(setup.dataset.train, setup.device, free=2**30)
    learner.replay = learner.make_replay(Tape())
    assert learn() == expected
    known = list_device_candidates(learner, batches)
    assert [candidate.setting for candidate in known] == ["graph", "device_cache"]
    for candidate in known:
        candidate.change()
        assert learn() == expected
        candidate.undo()
        assert learn() == expected
    assert learner.was_replayed
