"""Jobs that leave no model, and jobs that leave no files: what ships, and what the control plane knows of a trial."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import BadRequest
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.job_files import tell_weights
from chalicelib.pipeline.progress import describe_run
from tests.fakes.world import BUCKET, SETTINGS, World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()


def start(world: World, recipe: bytes = b"{}") -> str:
    world.upload("dogs.json", recipe)
    world.upload("dogs.zip", ZIP)
    return str(look_at_dataset("dogs", world.services()))


def lose_model(world: World, run_id: str, job: str) -> None:
    del world.s3.versions[f"runs/{run_id}/output/{job}/output/model.tar.gz"]


def name_trial(run_id: str, number: int) -> str:
    return f"{run_id}-{number:03d}-0123abcd"


def end_tuning(world: World, run_id: str, *, without: tuple[int, ...]) -> None:
    """The trials end, and some of them leave no model, as one that was killed at its stop does."""
    world.end_tuning(run_id)
    for number in without:
        lose_model(world, run_id, name_trial(run_id, number))


def read_served(world: World, run_id: str) -> str:
    data: str = world.sagemaker.kept["Model"][run_id]["PrimaryContainer"]["ModelDataUrl"]
    return data


def deploy(world: World, run_id: str) -> str:
    for _ in range(2):
        world.end_everything()
        status = advance(run_id, world.services())
    return status


def test_the_next_best_trial_with_a_model_is_taken(world: World) -> None:
    """The best ones left none: the run says which, trains with the hyperparameters of the taken one, and ships it."""
    world.trial_scores, world.score = [0.80, 0.90, 0.93, 0.97], None
    run_id = start(world)
    end_tuning(world, run_id, without=(3, 4))
    assert advance(run_id, world.services()) == "training"
    tuned = world.read(f"runs/{run_id}/tuning.json")
    assert tuned["best"]["name"] == name_trial(run_id, 2)
    assert tuned["passed_over"] == [
        {"name": name_trial(run_id, 4), "objective": 0.97},
        {"name": name_trial(run_id, 3), "objective": 0.93},
    ]
    assert world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]["HyperParameters"]["learning_rate"] == "0.2"
    assert deploy(world, run_id) == "deployed"
    assert read_served(world, run_id) == f"s3://pictures/{find_model(run_id, name_trial(run_id, 2))}"
    reason = describe_run(run_id, world.services())["decision"]["reason"]
    assert f"{name_trial(run_id, 4)}, {name_trial(run_id, 3)} left no model" in reason


def find_model(run_id: str, job: str) -> str:
    return f"runs/{run_id}/output/{job}/output/model.tar.gz"


def test_a_training_without_a_model_gives_way_to_the_trial(world: World) -> None:
    """However good its evaluation is."""
    world.score = 0.99
    run_id = start(world)
    world.end_everything()
    advance(run_id, world.services())
    world.end_training(run_id, "Stopped")
    lose_model(world, run_id, f"{run_id}-train")
    advance(run_id, world.services())
    decision = world.read(f"runs/{run_id}/decision.json")
    assert decision["ships"] == "trial"
    assert "left no model" in decision["reason"]
    assert read_served(world, run_id).endswith(find_model(run_id, name_trial(run_id, 2)))


def test_where_no_trial_left_a_model_the_training_ships(world: World) -> None:
    """However much worse it is."""
    world.score = 0.5
    run_id = start(world)
    end_tuning(world, run_id, without=(1, 2))
    advance(run_id, world.services())
    assert world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]["HyperParameters"]["learning_rate"] == "0.2"
    assert deploy(world, run_id) == "deployed"
    assert read_served(world, run_id).endswith(find_model(run_id, f"{run_id}-train"))
    assert "No trial left a model" in world.read(f"runs/{run_id}/decision.json")["reason"]


def test_where_no_job_left_a_model_the_run_fails(world: World) -> None:
    """Nothing is deployed, and the reason says what is missing."""
    run_id = start(world)
    end_tuning(world, run_id, without=(1, 2))
    advance(run_id, world.services())
    world.end_training(run_id)
    lose_model(world, run_id, f"{run_id}-train")
    assert advance(run_id, world.services()) == "failed"
    assert "left a model" in world.read(f"runs/{run_id}/result.json")["reason"]
    assert world.sagemaker.kept["Model"] == {}


def test_the_model_is_looked_for_where_the_job_says(world: World) -> None:
    """DescribeTrainingJob's ModelArtifacts tells it."""
    run_id = start(world)
    world.end_tuning(run_id)
    for trial in world.sagemaker.trials[run_id]:
        name = trial["TrainingJobName"]
        lose_model(world, run_id, name)
        elsewhere = f"runs/{run_id}/elsewhere/{name}.tar.gz"
        world.s3.store(elsewhere, b"model")
        artifacts = {"S3ModelArtifacts": f"s3://pictures/{elsewhere}"}
        world.sagemaker.kept["TrainingJob"][name] = {**trial, "ModelArtifacts": artifacts}
    advance(run_id, world.services())
    tuned = world.read(f"runs/{run_id}/tuning.json")
    assert tuned["model_data"] == f"s3://pictures/runs/{run_id}/elsewhere/{name_trial(run_id, 2)}.tar.gz"


def describe_metrics(**values: float) -> list[dict[str, Any]]:
    return [{"MetricName": name.replace("__", ":"), "Value": value} for name, value in values.items()]


def leave_no_files(world: World, run_id: str, metrics: list[dict[str, Any]]) -> None:
    """The trials' checkpoints went somewhere else: only what SageMaker says of them is known."""
    world.end_tuning(run_id)
    for trial in world.sagemaker.trials[run_id]:
        name = trial["TrainingJobName"]
        del world.s3.versions[f"runs/{run_id}/jobs/{name}/evaluation.json"]
        world.sagemaker.kept["TrainingJob"][name] = {**trial, "FinalMetricDataList": metrics}


@pytest.mark.parametrize(("error", "ships"), [(0.10, "train"), (0.01, "trial")])
def test_a_trials_standard_error_comes_from_its_metrics(world: World, error: float, ships: str) -> None:
    """No file of a trial is needed to choose between it and the training."""
    world.score = 0.90
    run_id = start(world)
    metrics = describe_metrics(valid__standard_error=error, valid__images=48.0, valid__accuracy=0.93)
    leave_no_files(world, run_id, metrics)
    advance(run_id, world.services())
    evaluation = world.read(f"runs/{run_id}/tuning.json")["evaluation"]
    assert evaluation["objective"] == {"value": 0.93, "standard_error": error, "images": 48}
    assert str(evaluation["valid"]["images"]) == "48"  # a whole number, as a job's own file has it
    world.end_everything()
    advance(run_id, world.services())
    decision = world.read(f"runs/{run_id}/decision.json")
    assert decision["training_job_name"].endswith("train") == (ships == "train")
    assert decision["objective"]["standard_error"] == max(error, 0.02)


def test_the_gate_reads_a_trials_metrics_too(world: World) -> None:
    """A trial that ships is let through by its accuracy, whatever became of its files; the result tells it."""
    world.score = None
    run_id = start(world, b'{"gate": {"min_accuracy": 0.9}}')
    metrics = describe_metrics(
        valid__standard_error=0.02, valid__images=48.0, valid__accuracy=0.93, test__accuracy=0.91, train__images=300.0
    )
    leave_no_files(world, run_id, metrics)
    advance(run_id, world.services())
    assert deploy(world, run_id) == "deployed"
    told = world.read(f"runs/{run_id}/result.json")["metrics"]
    assert told["valid"]["accuracy"] == 0.93
    assert told["test"] == {"accuracy": 0.91}


def test_the_trainings_metrics_stand_in_for_its_file(world: World) -> None:
    """A final training whose evaluation.json is not to be found is judged by what SageMaker read in its log."""
    world.score = None
    run_id = start(world)
    world.end_everything()
    advance(run_id, world.services())
    metrics = describe_metrics(
        valid__score=0.96, valid__standard_error=0.01, valid__images=48.0, valid__accuracy=0.97, test__accuracy=0.95
    )
    world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]["FinalMetricDataList"] = metrics
    assert deploy(world, run_id) == "deployed"
    decision = world.read(f"runs/{run_id}/decision.json")
    assert (decision["ships"], decision["objective"]["training"]) == ("training", 0.96)
    assert world.read(f"runs/{run_id}/result.json")["metrics"]["test"]["accuracy"] == 0.95


@pytest.mark.parametrize(
    ("recipe", "found", "told"), [(b"{}", "none", 1), (b"{}", "imagenet", 0), (b'{"pretrained": "none"}', "none", 0)]
)
def test_a_training_from_scratch_is_told_while_it_runs(world: World, recipe: bytes, found: str, told: int) -> None:
    """As soon as a job says that it found no weights, unless the recipe wanted none; with what to do about it."""
    run_id = start(world, recipe)
    assert describe_run(run_id, world.services())["notes"] == []
    line = json.dumps({"start": {"pretrained": found}}).encode()
    world.s3.store(f"runs/{run_id}/jobs/{name_trial(run_id, 1)}/metrics.jsonl", line)
    notes = describe_run(run_id, world.services())["notes"]
    assert len(notes) == told
    assert all("make weights ARCH=resnet18" in note for note in notes)


@pytest.mark.parametrize(("found", "state"), [(None, "unknown"), ("none", "missing"), ("imagenet", "found")])
def test_before_a_run_its_weights_are_told_by_the_last_run(world: World, found: str | None, state: str) -> None:
    """Of the same network only. A message says what to do, unless there is nothing to do."""
    run_id = start(world)
    if found:
        line = json.dumps({"start": {"pretrained": found}}).encode()
        world.s3.store(f"runs/{run_id}/jobs/{name_trial(run_id, 1)}/metrics.jsonl", line)
    told = tell_weights(None, world.services())
    assert (told["architecture"], told["state"]) == ("resnet18", state)
    assert (told["message"] is None) == (state == "found")
    assert state == "found" or "`make weights ARCH=resnet18`" in str(told["message"])
    assert tell_weights("resnet50", world.services())["state"] == "unknown"


@pytest.mark.parametrize(
    ("uri", "file", "architecture", "state"),
    [
        (f"s3://{BUCKET}/weights/", "resnet18-f37072fd.pth", "resnet18", "found"),
        (f"s3://{BUCKET}/weights/", "mnasnet0.5_top1_67.823-3ffadce67e.pth", "mnasnet0_5", "found"),
        (f"s3://{BUCKET}/weights/", "resnet18.pth", "resnet50", "unknown"),
        ("s3://elsewhere/weights/", "resnet18.pth", "resnet50", "found"),
    ],
)
def test_weights_in_the_bucket_are_found_by_their_names(uri: str, file: str, architecture: str, state: str) -> None:
    """As torchvision names them. Another bucket may not be ours to list: whoever named it put them there."""
    world = World(replace(SETTINGS, weights_uri=uri))
    world.s3.store(f"weights/{file}", b"weights")
    assert tell_weights(architecture, world.services())["state"] == state


def test_weights_of_an_unknown_network_are_a_bad_request(world: World) -> None:
    """The message says where the networks are listed."""
    with pytest.raises(BadRequest, match="GET /recipes/schema"):
        tell_weights("resnet19", world.services())
