"""Tests of a job that torchrun starts as two processes on one machine: one of them writes, and both end together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.jobs.entry_points import LOOPBACK, find_port
from tests.training.tiny import ROOT, Runner, Template

TEAM = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", **LOOPBACK}


@pytest.fixture
def pair(tmp_path: Path, archive: Path, template: Template) -> list[Runner]:
    """Return two views of one job folder, each with a log of its own."""
    runners = [Runner(tmp_path, archive, template)]
    other = Runner.__new__(Runner)
    vars(other).update(vars(runners[0]))
    other.log_path = tmp_path / "log.1"
    return [*runners, other]


def run(pair: list[Runner], *, second: dict[str, str] | None = None, **hyperparameters: str) -> list[tuple[int, str]]:
    """Run both processes; `second` is the second's own environment."""
    port = str(find_port())
    own = ({}, second or {})
    started = [
        runner.start(hyperparameters, MASTER_PORT=port, RANK=str(rank), LOCAL_RANK=str(rank), **TEAM, **own[rank])
        for rank, runner in enumerate(pair)
    ]
    return [runner.finish(pid) for runner, pid in zip(pair, started, strict=True)]


def test_two_processes_ship_one_model(pair: list[Runner]) -> None:
    """The chief alone reports and writes; every image counts once; batches too small for both are enlarged."""
    (code, log), (other, silent) = run(pair, batch_size="4", epochs="2")
    assert (code, other) == (0, 0), log + silent
    assert "best epoch=" in log
    assert "batch_size=4 is too small for 2 processes: batches have 6 images" in log
    assert silent.splitlines() == ["whippet training: job whippet-test-1-train, 1 threads, 0 GPUs, process 1 of 2"]
    start, *epochs = [record for record in pair[0].metrics() if "best" not in record]
    assert start["start"]["processes"] == 2
    assert [record["images"] for record in epochs] == [48, 48]
    assert {path.name for path in pair[0].folder.iterdir()} == {"metrics.jsonl", "evaluation.json"}
    assert pair[0].evaluation()["test"]["images"] == 18
    assert pair[0].read("model/manifest.json")["hyperparameters"]["batch_size"] == 6


def test_one_process_that_fails_is_the_reason_of_the_job(pair: list[Runner]) -> None:
    """The other's copy of the data is gone: both end, and both name that."""
    ended = run(pair, second={"SM_CHANNEL_DATASET": str(pair[0].base / "model")})
    assert [code for code, _ in ended] == [1, 1]
    assert "must hold one zip" in pair[0].failure()
    assert all("must hold one zip" in log for _, log in ended)


def test_torchrun_starts_them_as_on_a_machine_of_several_gpus(pair: list[Runner]) -> None:
    """Under torchrun itself, whose agent holds the store and hands on the exit code."""
    script = [str(ROOT / "training/train.py"), "--epochs", "ignored"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "2", *script]
    environment = {**pair[0].environ({"epochs": "1"}), **LOOPBACK}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert pair[0].metrics()[0]["start"]["processes"] == 2
    assert pair[0].evaluation()["finished"]
