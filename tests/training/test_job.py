"""Tests of the whole job as SageMaker runs it: environment in, and every file and log line out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from images.data import read_dataset

from tests.training.tiny import QUICK, ROOT, SHAPES, Runner, shapes_zip

METRIC = r"{}=([-+0-9.eE]+)"
COUNTS = ("train:images", "train:classes", "valid:images")
# What a trial may load, beside the standard library and what torch has loaded by itself.
ALLOWED = {"torch", "torchvision", "torchgen", "functorch", "numpy", "PIL"}
# What late-loaded parts of torch import; every image that holds torch has it.
OF_TORCH = {"typing_extensions", "sympy", "mpmath", "networkx"}


def test_the_files_of_a_finished_job(trained: Runner) -> None:
    """The model directory and the job folder hold what endpoint and control plane read, and no checkpoint."""
    assert {path.name for path in trained.model.iterdir()} == {"model.pth", "manifest.json", "code"}
    served = {path.name for path in (ROOT / "inference").glob("*.py")}
    assert {path.name for path in (trained.model / "code").iterdir()} == served
    assert {path.name for path in trained.folder.iterdir()} == {"metrics.jsonl", "evaluation.json"}
    assert not (trained.base / "output/failure").exists()
    written = {path.relative_to(trained.base).parts[0] for path in trained.base.iterdir()}
    assert written == {"input", "model", "checkpoints"}


def test_the_manifest_describes_the_model(trained: Runner) -> None:
    """The manifest says how to build the network, how to prepare its input, and where the model comes from."""
    manifest = trained.read("model/manifest.json")
    assert manifest["format"] == 1
    assert manifest["classes"] == list(SHAPES)
    assert (manifest["run_id"], manifest["training_job_name"]) == ("whippet-test-1", trained.job)
    assert (manifest["image_size"], manifest["resize_size"]) == (16, 16)
    assert (manifest["pretrained"], manifest["fine_tune"]) == ("none", "all")
    assert len(manifest["training_image_hashes"]) == 48
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in manifest["training_image_hashes"])
    weights = torch.load(trained.model / "model.pth", weights_only=True)
    torchvision.models.get_model(manifest["architecture"], num_classes=3).load_state_dict(weights)


def test_the_shipped_weights_are_those_that_were_evaluated(trained: Runner) -> None:
    """The model, loaded again, reaches the test accuracy of evaluation.json."""
    from images.pixels import normalise

    manifest, evaluation = trained.read("model/manifest.json"), trained.evaluation()
    network = torchvision.models.get_model(manifest["architecture"], num_classes=3).eval()
    network.load_state_dict(torch.load(trained.model / "model.pth", weights_only=True))
    data = read_dataset(trained.channel / "dataset.zip", 16, threads=1, scratch=trained.base)
    with torch.inference_mode():
        answers = network(normalise(data.test.images(torch.arange(len(data.test))))).argmax(1)
    assert float((answers == data.test.labels).float().mean()) == pytest.approx(evaluation["test"]["accuracy"])


def test_the_evaluation_gives_the_objective_with_its_error(trained: Runner) -> None:
    """The gate reads the objective, its standard error and the test metrics."""
    evaluation = trained.evaluation()
    goal, valid, test = evaluation["objective"], evaluation["valid"], evaluation["test"]
    assert (goal["name"], goal["value"], goal["images"]) == ("valid:score", valid["score"], 18)
    assert goal["standard_error"] > 0
    assert valid["score"] == pytest.approx(valid["accuracy"] - 0.1 * valid["loss"])
    assert sum(map(sum, test["confusion"])) == test["images"] == 18
    assert [row["class"] for row in test["classes"]] == evaluation["classes"] == list(SHAPES)
    assert {"ece", "temperature", "ece_at_temperature"} <= set(test["calibration"])
    assert (evaluation["format"], evaluation["threads"], evaluation["finished"]) == (1, 1, True)


def test_the_log_gives_each_metric_once_an_epoch_and_for_the_kept_epoch(trained: Runner) -> None:
    """A tuning job's regexes find a value of each epoch that is logged in full, and the best epoch's value last.

    Of epochs that are shorter than the gap between two lines, none need be.
    """
    log, evaluation = trained.log(), trained.evaluation()
    lines = re.findall(r"^(?:best )?epoch=\d+ .*valid:score=.*", log, re.MULTILINE)
    assert lines[-1].startswith("best epoch=")
    for name in ("valid:loss", "valid:accuracy", "valid:macro_f1", "valid:score", "valid:standard_error"):
        assert len(re.findall(METRIC.format(name), log)) == len(lines)
    scores = [float(value) for value in re.findall(METRIC.format("valid:score"), log)]
    assert scores[-1] == max(scores)
    assert scores[-1] == pytest.approx(evaluation["objective"]["value"], abs=1e-5)
    assert re.search(r"^epoch=1 train:loss=\S+ train:accuracy=", log, re.MULTILINE)
    for name in ("test:accuracy", "test:macro_precision", "test:macro_recall", "test:macro_f1"):
        assert len(re.findall(METRIC.format(name), log)) == 1


def test_the_log_says_of_each_line_what_the_control_plane_needs_of_a_trial(trained: Runner) -> None:
    """Beside the objective: its standard error and the counts, so that nothing need be read from a job's folder."""
    goal = trained.evaluation()["objective"]
    for line in re.findall(r"^(?:best )?epoch=.*", trained.log(), re.MULTILINE):
        counts = {name: re.findall(METRIC.format(name), line) for name in COUNTS}
        assert counts == {"train:images": ["48"], "train:classes": ["3"], "valid:images": ["18"]}
    errors = re.findall(METRIC.format("valid:standard_error"), trained.log())
    assert float(errors[-1]) == pytest.approx(goal["standard_error"], abs=1e-6)


def test_the_metrics_file_tells_start_epochs_and_best(trained: Runner) -> None:
    """metrics.jsonl has one line at the start, one per epoch and one at the end."""
    first, *epochs, last = trained.metrics()
    assert first["start"]["images"] == {"train": 48, "valid": 18, "test": 18}
    assert (first["start"]["threads"], first["start"]["pretrained"]) == (1, "none")
    assert [record["epoch"] for record in epochs] == [1, 2, 3]
    assert all(record["images"] == 48 and record["images_per_second"] > 0 for record in epochs)
    best = max(epochs, key=lambda record: record["valid"]["score"])
    assert last == {"best": {"epoch": best["epoch"], "valid": best["valid"]}}


def outcome(runner: Runner) -> Any:
    """Return all that a training leads to, without its times."""
    epochs = [{**record, "time": 0, "seconds": 0, "images_per_second": 0} for record in runner.metrics()[1:]]
    evaluation = {**runner.evaluation(), "seconds": 0}
    weights = torch.load(runner.model / "model.pth", weights_only=True)
    return epochs, evaluation, {name: value.tolist() for name, value in weights.items() if value.numel() < 5000}


def test_the_same_seed_gives_the_same_model(trained: Runner, runner: Runner) -> None:
    """Two runs with the same seed and thread count agree bit by bit, whatever the job's folder is called."""
    assert runner.run()[0] == 0
    assert outcome(runner) == outcome(trained)


def test_another_seed_gives_another_model(trained: Runner, runner: Runner) -> None:
    """The seed determines initial weights and order."""
    assert runner.run({"seed": "1", "epochs": "1"})[0] == 0
    assert runner.metrics()[1]["train"] != trained.metrics()[1]["train"]


def wait_for(path: Path, text: str) -> None:
    """Wait until a file holds a text."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise TimeoutError(f"{path} never held {text!r}")


def test_a_stopped_job_ships_its_best_epoch_and_resumes_to_the_same_end(runner: Runner, archive: Path) -> None:
    """After SIGTERM it exits with 0, state and best model saved; run again, it ends as if never interrupted."""
    wanted = {"epochs": "4", "batch_size": "8"}
    pid = runner.start(wanted)
    wait_for(runner.folder / "metrics.jsonl", '"epoch": 2')
    os.kill(pid, signal.SIGTERM)
    code, log = runner.finish(pid)
    assert code == 0, log
    assert (runner.folder / "checkpoint.pt").exists()
    assert not runner.evaluation()["finished"]
    assert any("stopped" in warning for warning in runner.read("model/manifest.json")["warnings"])
    code, log = runner.run(wanted)
    assert code == 0
    assert "resuming after epoch" in log
    assert not (runner.folder / "checkpoint.pt").exists()
    assert [record["epoch"] for record in runner.metrics()[1:-1]] == [1, 2, 3, 4]
    resumed = outcome(runner)
    shutil.rmtree(runner.base / "checkpoints")
    assert runner.run(wanted)[0] == 0
    assert outcome(runner) == resumed


def test_a_killed_job_resumes(runner: Runner) -> None:
    """kill -9 leaves a complete checkpoint, from which the next run resumes."""
    wanted = {"epochs": "4", "batch_size": "8"}
    pid = runner.start(wanted)
    wait_for(runner.folder / "metrics.jsonl", '"epoch": 2')
    os.kill(pid, signal.SIGKILL)
    assert runner.finish(pid)[0] == -signal.SIGKILL
    code, log = runner.run(wanted)
    assert code == 0
    assert re.search(r"resuming after epoch [123], step 0", log)


def test_a_stop_before_training_ends_at_once(runner: Runner) -> None:
    """With nothing to save, SIGTERM ends the job with exit code 0 and without a model."""
    pid = runner.start({"epochs": "500"})
    wait_for(runner.log_path, "whippet training")
    os.kill(pid, signal.SIGTERM)
    assert runner.finish(pid)[0] == 0
    assert not (runner.model / "model.pth").exists()


def test_a_foreign_or_broken_checkpoint_is_passed_over(trained: Runner, runner: Runner) -> None:
    """A damaged checkpoint is ignored and the training starts from the beginning."""
    runner.folder.mkdir(parents=True)
    (runner.folder / "checkpoint.pt").write_bytes(b"half a file")
    code, log = runner.run()
    assert code == 0
    assert "cannot be read" in log
    assert outcome(runner) == outcome(trained)


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"learning_rate": "fast"}, "hyperparameter learning_rate is 'fast'"),
        ({"objective": "speed"}, "choose one of score, accuracy, macro_f1"),
        ({"architecture": "resnet19"}, "is not a torchvision classifier"),
        ({"architecture": "vit_b_16", "image_size": "32"}, "cannot take images of 32 pixels"),
        ({"pretrained": "imagenet"}, "channel `weights`"),
        ({"max_runtime": "-1"}, "hyperparameter max_runtime is -1; it must be at least 0"),
    ],
)
def test_a_failure_is_one_readable_sentence(runner: Runner, hyperparameters: dict[str, str], reason: str) -> None:
    """What a user can correct is in the failure file and the log, without a traceback; the exit code is 1."""
    code, log = runner.run(hyperparameters)
    assert code == 1
    assert reason in runner.failure()
    assert reason in log
    assert "Traceback" not in log
    assert not runner.model.exists()


def test_a_gpu_that_was_granted_and_cannot_be_used_fails_the_job(runner: Runner) -> None:
    """The job does not train on the CPU at the price of a GPU; the failure says what PyTorch met and what to choose."""
    code, log = runner.run(SM_NUM_GPUS="1", CUDA_VISIBLE_DEVICES="")
    assert code == 1
    assert "Traceback" not in log
    assert re.search(
        r"granted 1 GPU\(s\), and PyTorch \S+ cannot use them .*; choose a training image", runner.failure()
    )
    assert not runner.model.exists()


def test_a_missing_dataset_is_told(runner: Runner) -> None:
    """An empty channel fails the job with a message that names it."""
    (runner.channel / "dataset.zip").unlink()
    assert runner.run()[0] == 1
    assert "channel dataset" in runner.failure()


def test_missing_splits_are_cut_and_scratch_training_is_told(runner: Runner) -> None:
    """A zip of class folders alone is trained on; without pretrained weights, log, manifest and evaluation warn."""
    (runner.channel / "dataset.zip").write_bytes(shapes_zip({"": 40}, root="wrap/"))
    code, log = runner.run({"pretrained": "auto", "fine_tune": "'last_block'", "_tuning_objective_metric": "x"})
    assert code == 0, log
    images = runner.metrics()[0]["start"]["images"]
    assert sum(images.values()) == 120
    assert min(images.values()) > 0
    assert "every layer is trained" in log
    assert "does not know: _tuning_objective_metric" in log
    for warnings in (runner.evaluation()["warnings"], runner.read("model/manifest.json")["warnings"], [log]):
        assert any("FROM SCRATCH" in warning for warning in warnings)


def test_early_stopping_ends_a_training_that_does_not_improve(runner: Runner) -> None:
    """With patience 1 a diverging training ends before its last epoch and reports finite numbers."""
    code, _ = runner.run({"patience": "1", "learning_rate": "1e6", "epochs": "40"})
    assert code == 0
    assert len(runner.metrics()) < 42
    json.dumps(runner.evaluation(), allow_nan=False)


LISTING = """
import runpy, sys
import torch, torchvision
before = {name.split(".")[0] for name in sys.modules}
sys.argv = ["train.py"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as ended:
    print("MODULES", ended.code, " ".join(sorted({name.split(".")[0] for name in sys.modules} - before)))
"""


def test_a_trial_imports_only_what_the_image_has(runner: Runner, tmp_path: Path) -> None:
    """In a cold process with a tarball's layout: torch, torchvision, numpy, Pillow, the standard library, and ours."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "training", code, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "inference", code / "inference", ignore=shutil.ignore_patterns("__pycache__"))
    environ = runner.environ({"epochs": "1"})
    done = subprocess.run(
        [sys.executable, "-c", LISTING], env=environ, cwd=code, capture_output=True, text=True, timeout=120
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    _, ended, *modules = line.split()
    ours = {path.stem for path in code.iterdir()}
    strange = {name for name in modules if not name.startswith("_")} - set(sys.stdlib_module_names) - ours
    assert ended == "0"
    assert strange - ALLOWED - OF_TORCH == set()
    assert (runner.model / "code/inference.py").exists()


def test_quick_hyperparameters_are_strings_as_sagemaker_gives_them() -> None:
    """The tests above pass hyperparameters as SageMaker does: as text."""
    assert all(isinstance(value, str) for value in QUICK.values())
