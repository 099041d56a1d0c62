"""A history is replayed exactly by its seed, on any machine and in any process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.clients import Killed
from tests.histories.chaos.__main__ import main, show
from tests.histories.chaos.functions import API_LIMIT, LIMIT
from tests.histories.chaos.histories import History, Verdict
from tests.histories.chaos.scheduling import Scheduler

ROOT = Path(__file__).parents[3]


def digest(seed: int) -> str:
    return hashlib.sha256("\n".join(History(seed).live(traced=True).trace).encode()).hexdigest()


def test_a_seed_is_one_history() -> None:
    """Every line of the trace is the same, in processes that hash differently too; another seed is another history."""
    program = "from tests.histories.chaos.test_replays import digest; print(*(digest(seed) for seed in range(6)))"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            text=True,
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(set(told[0])) == 6


def test_the_command_counts_and_replays(capsys: pytest.CaptureFixture[str]) -> None:
    """`make chaos` says how many histories break a rule; `make chaos SEED=3` prints one, call by call."""
    assert main(["--histories", "4", "--processes", "2"]) == 0
    assert "4 histories in " in capsys.readouterr().out
    assert main(["--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "a person puts datasets/" in told
    assert "put_object runs/whippet-dev-" in told
    assert told.endswith("broken: nothing\n")


def test_the_command_fails_where_a_rule_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """The trace stands above the rules that were broken, and CI sees the exit code."""
    assert show(Verdict(7, ("the run x never ends",), ("00:00:01  sweep#1  list_objects_v2 active/",), 1)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "  broken: the run x never ends"


def test_functions_take_turns_in_the_order_of_time() -> None:
    """Each goes on when its pause is over, whoever began first."""
    scheduler, order = Scheduler(), list[str]()

    def work(name: str, pause: float) -> None:
        for number in range(3):
            order.append(f"{name}{number}")
            scheduler.pause(pause)

    scheduler.start("a", lambda: work("a", 3.0), 300.0, lambda task: None)
    scheduler.start("b", lambda: work("b", 2.0), 300.0, lambda task: None)
    scheduler.run(100.0)
    assert order == ["a0", "b0", "b1", "a1", "b2", "a2"]


def test_a_killed_function_has_no_effect_any_more() -> None:
    """A function that has run for too long is killed in its pause: what it does to clean up is not done either."""
    scheduler, done = Scheduler(), list[str]()

    def work() -> None:
        try:
            scheduler.pause(500.0)
        finally:
            scheduler.pause(1.0)  # stands for a call to AWS
            done.append("cleaned up")

    scheduler.start("slow", work, 300.0, lambda task: done.append(str(task.is_killed)))
    scheduler.run(1000.0)
    assert done == ["True"]
    with pytest.raises(AssertionError):
        scheduler.kill()
    assert issubclass(Killed, BaseException)
    assert not issubclass(Killed, Exception)


def test_functions_are_killed_when_lambda_kills_them() -> None:
    """The limits are those of .chalice/config.json."""
    functions = json.loads((ROOT / ".chalice/config.json").read_text())["lambda_functions"]
    timeouts = {name: each["lambda_timeout"] for name, each in functions.items()}
    assert timeouts.pop("api_handler") == API_LIMIT
    assert set(timeouts.values()) == {LIMIT}
