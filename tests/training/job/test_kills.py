"""Tests of a job that is killed or runs out of time without having received a signal, and of its neighbours' files.

AWS's images forward no signal to the program: what is in place when it is killed is all that there will be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from images.data import read_dataset
from images.pixels import normalise

from tests.training.test_job import outcome, wait_for
from tests.training.tiny import SHAPES, Runner

# A network of 3 MB: what it takes to write it is a small part of a training of seconds.
SMALL = {"architecture": "squeezenet1_1", "image_size": "32", "batch_size": "8"}


def wait_for_file(path: Path) -> None:
    end = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < end, f"{path} is not there"
        time.sleep(0.02)


def judge_shipped(runner: Runner) -> float:
    """Load the model folder as an endpoint does. Return its accuracy on the test split."""
    manifest = runner.read("model/manifest.json")
    network = torchvision.models.get_model(manifest["architecture"], num_classes=len(manifest["classes"])).eval()
    network.load_state_dict(torch.load(runner.model / "model.pth", weights_only=True))
    data = read_dataset(runner.channel / "dataset.zip", manifest["resize_size"], threads=1, scratch=runner.base)
    with torch.inference_mode():
        answers = network(normalise(data.test.images(torch.arange(len(data.test))))).argmax(1)
    return float((answers == data.test.labels).float().mean())


def test_a_job_killed_without_a_signal_leaves_its_best_model(runner: Runner) -> None:
    """Before its end model, manifest, evaluation and code are in place, agree, and say that there was no end."""
    pid = runner.start({**SMALL, "epochs": "2000"})
    wait_for_file(runner.folder / "evaluation.json")
    os.kill(pid, signal.SIGKILL)
    assert runner.finish(pid)[0] == -signal.SIGKILL
    manifest, evaluation = runner.read("model/manifest.json"), runner.evaluation()
    assert manifest["classes"] == evaluation["classes"] == list(SHAPES)
    assert (runner.model / "code/inference.py").exists()
    assert judge_shipped(runner) == pytest.approx(evaluation["test"]["accuracy"])
    assert not evaluation["finished"]
    assert any("stopped before its end" in warning for warning in manifest["warnings"])


def test_a_killed_job_goes_on_from_its_last_epoch_to_the_same_end(runner: Runner) -> None:
    """Its next life repeats no epoch that ended, and models that were shipped on the way change nothing."""
    wanted = {**SMALL, "epochs": "30"}
    pid = runner.start(wanted)
    wait_for(runner.folder / "metrics.jsonl", '"epoch": 5')
    os.kill(pid, signal.SIGKILL)
    runner.finish(pid)
    ended = max(record.get("epoch", 0) for record in runner.metrics())
    code, log = runner.run(wanted)
    assert code == 0, log
    resumed = re.search(r"resuming after epoch (\d+), step 0", log)
    assert resumed
    assert int(resumed[1]) in (ended - 1, ended)  # the kill may come between an epoch's record and its checkpoint
    killed = outcome(runner)
    assert runner.run(wanted)[0] == 0
    assert outcome(runner) == killed


def test_a_job_ends_by_itself_before_its_time_limit(runner: Runner) -> None:
    """With its best model, an exit code of 0, and the reason in the log and among the warnings."""
    code, log = runner.run({**SMALL, "epochs": "100000", "max_runtime": "9"})
    assert code == 0, log
    assert runner.evaluation()["seconds"] < 9
    assert re.search(r"stopped in epoch \d+ of 100000, because the time limit of 9 s is near", log)
    evaluation = runner.evaluation()
    assert not evaluation["finished"]
    assert any("time limit of 9 s" in warning for warning in evaluation["warnings"])
    assert judge_shipped(runner) == pytest.approx(evaluation["test"]["accuracy"])
    assert re.search(r"^best epoch=\d+ .*valid:score=", log, re.MULTILINE)


def test_a_profiled_job_that_runs_out_of_time_still_writes_its_report(runner: Runner) -> None:
    """The time to draw it is kept free too; only a baseline that would be a training of its own is left out."""
    code, log = runner.run({**SMALL, "epochs": "100000", "max_runtime": "20", "profile": "true"}, WHIPPET_INSTALL="0")
    assert code == 0, log
    assert "because the time limit of 20 s is near" in log
    assert (runner.folder / "report.html").stat().st_size > 10_000


def test_a_limit_within_the_first_epoch_still_gives_a_model(runner: Runner) -> None:
    """What was learnt until then is validated, reported, shipped, and said to be less than an epoch's."""
    code, log = runner.run({**SMALL, "max_runtime": "1"})
    assert code == 0, log
    assert re.search(METRIC, log, re.MULTILINE)
    assert judge_shipped(runner) == pytest.approx(runner.evaluation()["test"]["accuracy"])
    assert any("steps of its first epoch" in warning for warning in runner.read("model/manifest.json")["warnings"])


METRIC = r"^best epoch=1 .*valid:score="


def test_the_time_of_earlier_lives_counts(runner: Runner) -> None:
    """SageMaker's limit is of all attempts together, so a resumed job has only what they have left."""
    wanted = {**SMALL, "epochs": "50", "max_runtime": "600"}
    pid = runner.start(wanted)
    wait_for(runner.folder / "metrics.jsonl", '"epoch": 3')
    os.kill(pid, signal.SIGKILL)
    runner.finish(pid)
    path = runner.folder / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    assert 0 < state["progress"]["spent"] < 60
    state["progress"]["spent"] = 590.0
    torch.save(state, path)
    code, log = runner.run(wanted)
    assert code == 0, log
    assert "because the time limit of 600 s is near" in log
    assert not runner.evaluation()["finished"]


def list_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of change of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("profile", ["false", "true"])
def test_what_other_jobs_have_among_the_checkpoints_is_left_alone(
    trained: Runner, runner: Runner, profile: str
) -> None:
    """All jobs of a run share a prefix: a sibling's checkpoint is neither resumed from, nor changed, nor deleted."""
    before = place_neighbours(runner)
    code, log = runner.run({"profile": profile}, WHIPPET_INSTALL="0")
    assert code == 0, log
    assert "resuming" not in log
    after = {name: file for name, file in list_files(runner.base / "checkpoints").items() if name in before}
    assert after == before
    assert {path.name for path in runner.folder.parent.iterdir()} == {
        "checkpoint.pt",
        "metrics.jsonl",
        "r-001",
        "r-002",
        runner.job,
    }
    if profile == "false":
        assert outcome(runner) == outcome(trained)


def place_neighbours(runner: Runner) -> dict[str, tuple[bytes, int]]:
    """Fill the checkpoint folder as a prefix that is shared, or was used before, fills it."""
    folder = runner.base / "checkpoints"
    contents: dict[str, Any] = {"checkpoint.pt": "x", "metrics.jsonl": json.dumps({"epoch": 9}) + "\n"}
    contents |= {f"r-00{number}/{name}": content for number in (1, 2) for name, content in list(contents.items())}
    contents |= {f"{name}.partial": "half" for name in ("r-001/evaluation", "r-002/checkpoint")}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return list_files(folder)
