"""A run's whole way, and each way that it can end, with fakes that answer as AWS does."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.errors import Conflict, WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset, retry_run, stop_run
from chalicelib.pipeline.progress import describe_run, list_runs
from chalicelib.pipeline.sweep import sweep
from tests.events.contract import complaints
from tests.fakes.clients import Killed
from tests.fakes.world import World
from tests.support.layouts import pack, picture
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()


def start(world: World, name: str = "dogs", recipe: object = None) -> str:
    """Upload a dataset and deliver its event."""
    if recipe is not None:
        world.upload(f"{name}.json", json.dumps(recipe).encode())
    world.upload(f"{name}.zip", ZIP)
    run_id = look_at_dataset(name, world.services())
    assert run_id
    return run_id


def go_on(world: World, run_id: str) -> str:
    """End what runs and deliver its event."""
    world.end_everything()
    return advance(run_id, world.services())


def go_to_the_end(world: World, run_id: str) -> str:
    for _ in range(3):
        status = go_on(world, run_id)
    return status


def read_result(world: World, run_id: str) -> tuple[str, str]:
    result = world.read(f"runs/{run_id}/result.json")
    return result["status"], result["reason"] or ""


def test_an_upload_becomes_a_model_that_serves(world: World) -> None:
    """There is one upload, tuning, training, endpoint and result, and a notification of every step."""
    run_id = start(world)
    assert [go_on(world, run_id) for _ in range(3)] == ["training", "deploying", "deployed"]
    result = world.read(f"runs/{run_id}/result.json")
    assert result["metrics"]["test"]["accuracy"] == 0.95
    assert result["endpoint"] in world.sagemaker.kept["Endpoint"]
    assert result["seconds"] > 0
    assert [operation for operation, _ in world.sagemaker.requests] == [
        "CreateHyperParameterTuningJob",
        "CreateTrainingJob",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
    ]
    told = ["Tuning Started", "Training Started", "Deployment Started", "Model Deployed"]
    assert [name for name, _ in world.events.sent] == told
    assert [json.loads(message["Message"])["event"] for message in world.sns.sent] == told
    assert world.list_keys("active/") == []


def test_checkpoints_of_stopped_jobs_go_with_the_end_of_the_run(world: World) -> None:
    """No job resumes from them any more; the jobs' findings stay."""
    run_id = start(world)
    bucket = world.services().bucket
    for name in ("checkpoint.pt", "metrics.jsonl"):
        bucket.write(f"runs/{run_id}/jobs/{run_id}-007/{name}", b"{}")
    assert go_on(world, run_id) == "training"
    assert world.list_keys(f"runs/{run_id}/jobs/{run_id}-007/")[0].endswith("/checkpoint.pt")
    assert [go_on(world, run_id) for _ in range(2)] == ["deploying", "deployed"]
    assert world.list_keys(f"runs/{run_id}/jobs/{run_id}-007/") == [f"runs/{run_id}/jobs/{run_id}-007/metrics.jsonl"]


def test_a_broken_dataset_launches_nothing(world: World) -> None:
    """A file that is not a zip is `rejected` with a reason, and costs nothing."""
    world.upload("dogs.zip", b"no zip")
    run_id = look_at_dataset("dogs", world.services()) or ""
    assert read_result(world, run_id)[0] == "rejected"
    assert "zip" in read_result(world, run_id)[1]
    assert world.sagemaker.requests == []
    assert [name for name, _ in world.events.sent] == ["Dataset Rejected"]
    assert world.events.sent[0][1]["problems"]


def test_a_broken_recipe_is_rejected_with_every_problem(world: World) -> None:
    """The reason names each member that is wrong."""
    run_id = start(world, recipe={"trials": 0, "epoch": 3})
    status, reason = read_result(world, run_id)
    assert status == "rejected"
    assert "trials" in reason
    assert "epoch" in reason


def test_a_huge_recipe_is_rejected_and_not_read_whole(world: World) -> None:
    """A file that was uploaded under a recipe's name by mistake costs a megabyte of memory, not all of it."""
    read: list[int] = []
    plain = world.s3.do_get_object

    def get(**request: Any) -> Any:
        answer = plain(**request)
        if request["Key"] == "datasets/dogs.json":
            body = answer["Body"]
            answer["Body"] = SimpleNamespace(read=lambda most: read.append(most) or body.read(most))
        return answer

    world.s3.get_object = get  # type: ignore[attr-defined]
    world.upload("dogs.json", b"[" * 5_000_000)
    run_id = start(world)
    assert read_result(world, run_id)[0] == "rejected"
    assert "right file" in read_result(world, run_id)[1]
    assert read == [1_000_000]


def test_a_recipe_uploaded_after_a_failure_begins_the_next_attempt(world: World) -> None:
    """It begins one: a doubled event or a sweep begins no other, and an unchanged recipe begins none."""
    first = start(world, recipe={"trials": 0})
    assert look_at_dataset("dogs", world.services()) is None
    world.upload("dogs.json", b'{"trials": 3}')
    second = look_at_dataset("dogs", world.services())
    assert second not in (None, first)
    assert world.read(f"runs/{second}/run.json")["attempt"] == 2
    assert world.read(f"runs/{second}/run.json")["recipe"]["trials"] == 3
    assert look_at_dataset("dogs", world.services()) == second
    sweep(world.services())
    assert len([key for key in world.list_keys("runs/") if key.endswith("/run.json")]) == 2


def test_a_recipe_uploaded_during_a_run_changes_nothing(world: World) -> None:
    """run.json pins the recipe of an attempt."""
    run_id = start(world, recipe={"epochs": 3})
    world.upload("dogs.json", b'{"epochs": 9}')
    assert look_at_dataset("dogs", world.services()) == run_id
    go_on(world, run_id)
    job = world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
    assert job["HyperParameters"]["epochs"] == "3"


def test_the_training_gets_the_best_trials_hyperparameters(world: World) -> None:
    """It does not get the one that SageMaker adds to trials."""
    run_id = start(world)
    go_on(world, run_id)
    asked = world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]["HyperParameters"]
    assert asked["learning_rate"] == "0.2"
    assert asked["profile"] == "true"
    assert "_tuning_objective_metric" not in asked


@pytest.mark.parametrize(
    ("counts", "objective", "ways"),
    [
        ({"cat": 12, "dog": 2, "eel": 4}, "macro_f1", ["none", "adjust", "sample"]),
        ({"cat": 4, "dog": 2, "eel": 4}, "score", None),
    ],
)
def test_counts_of_images_choose_the_objective(
    world: World, counts: dict[str, int], objective: str, ways: list[str] | None
) -> None:
    """Pre-flight counts the classes before the tuning begins, so that the tuning job already maximises macro F1."""
    splits = [(split, name) for split in ("train", "valid") for name in counts]
    names = [f"{split}/{name}/{number}.png" for split, name in splits for number in range(counts[name])]
    world.upload("pets.zip", pack(dict.fromkeys(names, picture())))
    run_id = look_at_dataset("pets", world.services())
    assert run_id
    job = world.sagemaker.kept["HyperParameterTuningJob"][run_id]
    config, static = job["HyperParameterTuningJobConfig"], job["TrainingJobDefinition"]["StaticHyperParameters"]
    assert config["HyperParameterTuningJobObjective"]["MetricName"] == f"valid:{objective}"
    assert static["objective"] == objective
    tuned = {each["Name"]: each["Values"] for each in config["ParameterRanges"]["CategoricalParameterRanges"]}
    assert tuned.get("imbalance") == ways
    assert ("imbalance" in static) == (ways is None)


def test_a_second_version_begins_with_what_the_first_tuning_learnt(world: World) -> None:
    """The tuning job of the live model is the parent; the best trial is one of the run's own."""
    first = start(world)
    assert "WarmStartConfig" not in world.sagemaker.kept["HyperParameterTuningJob"][first]
    assert go_to_the_end(world, first) == "deployed"
    world.trial_scores = [0.5, 0.6]
    world.upload("dogs.zip", build_small_zip(1))
    second = look_at_dataset("dogs", world.services())
    assert second
    warm = world.sagemaker.kept["HyperParameterTuningJob"][second]["WarmStartConfig"]
    assert warm["WarmStartType"] == "TransferLearning"
    assert warm["ParentHyperParameterTuningJobs"] == [{"HyperParameterTuningJobName": first}]
    go_on(world, second)
    assert world.read(f"runs/{second}/tuning.json")["best"]["name"].startswith(second)


def test_a_warm_start_is_left_out_where_it_is_not_wanted_or_not_taken(world: World) -> None:
    """By the recipe, or because SageMaker refuses the parent for a reason of its own: the run goes on without it."""
    first = start(world)
    go_to_the_end(world, first)
    world.sagemaker.refused_parents = {first}
    second = start(world)
    assert second != first
    assert "WarmStartConfig" not in world.sagemaker.kept["HyperParameterTuningJob"][second]
    asked = [request for name, request in world.sagemaker.requests if name == "CreateHyperParameterTuningJob"]
    assert ["WarmStartConfig" in request for request in asked] == [False, True, False]
    go_to_the_end(world, second)
    world.sagemaker.refused_parents = set()
    third = start(world, recipe={"warm_start": False})
    assert "WarmStartConfig" not in world.sagemaker.kept["HyperParameterTuningJob"][third]


@pytest.mark.parametrize(("score", "ships"), [(0.95, "train"), (0.92, "train"), (0.90, "trial"), (None, "trial")])
def test_the_better_model_ships(world: World, score: float | None, ships: str) -> None:
    """The best trial ships if the training is over one standard error worse, or left no evaluation."""
    world.score = score
    run_id = start(world)
    assert go_to_the_end(world, run_id) == "deployed"
    decision = world.read(f"runs/{run_id}/decision.json")
    best = f"{run_id}-002-0123abcd"
    job = best if ships == "trial" else f"{run_id}-train"
    assert decision["training_job_name"] == job
    assert decision["objective"]["training"] == score
    assert decision["objective"]["trial"] == 0.93
    model = world.sagemaker.kept["Model"][run_id]["PrimaryContainer"]["ModelDataUrl"]
    assert model == f"s3://pictures/runs/{run_id}/output/{job}/output/model.tar.gz"


def test_a_tuning_without_a_best_trial_fails_with_the_first_reason(world: World) -> None:
    """A tuning job may be Completed although no trial is."""
    world.trial_scores = [None, None]
    run_id = start(world)
    assert go_on(world, run_id) == "failed"
    assert "trial 1 broke" in read_result(world, run_id)[1]
    assert world.sagemaker.kept["TrainingJob"] == {}


def test_a_tuning_that_its_time_limit_stopped_goes_on_with_what_it_has(world: World) -> None:
    """The job is Stopped, and there is no stop.json."""
    run_id = start(world)
    world.end_tuning(run_id, "Stopped")
    assert advance(run_id, world.services()) == "training"
    world.end_training(run_id, "Stopped")
    assert advance(run_id, world.services()) == "deploying"


@pytest.mark.parametrize("stage", ["tuning", "training"])
def test_a_persons_stop_ends_the_run(world: World, stage: str) -> None:
    """The job is told to stop, and the run is `stopped` once it has."""
    run_id = start(world)
    if stage == "training":
        go_on(world, run_id)
    assert stop_run(run_id, "ann", world.services()) == stage
    assert go_on(world, run_id) == "stopped"
    assert read_result(world, run_id) == ("stopped", f"Stopped by ann while {stage}.")
    assert world.events.sent[-1][0] == "Run Stopped"


def test_a_stop_that_is_too_late_says_so(world: World) -> None:
    """A run that is being deployed, or has ended, cannot be stopped."""
    run_id = start(world)
    go_on(world, run_id)
    assert go_on(world, run_id) == "deploying"
    with pytest.raises(Conflict, match="being deployed"):
        stop_run(run_id, "ann", world.services())
    go_on(world, run_id)
    with pytest.raises(Conflict, match="has ended"):
        stop_run(run_id, "ann", world.services())


def test_a_failed_training_fails_the_run(world: World) -> None:
    """The run's reason is SageMaker's."""
    run_id = start(world)
    go_on(world, run_id)
    world.end_training(run_id, "Failed", "AlgorithmError: out of memory")
    assert advance(run_id, world.services()) == "failed"
    assert "out of memory" in read_result(world, run_id)[1]


def test_a_model_that_is_not_good_enough_is_not_deployed(world: World) -> None:
    """It is kept and the run says why; nothing serves it. A recipe that asks for less begins the next attempt."""
    first = start(world, recipe={"gate": {"min_accuracy": 0.97}})
    assert go_to_the_end(world, first) == "declined"
    result = world.read(f"runs/{first}/result.json")
    assert "0.9500" in result["reason"]
    assert "gate.min_accuracy is 0.97" in result["reason"]
    assert result["model_data"].endswith("/model.tar.gz")
    assert world.sagemaker.kept.get("Model", {}) == {}
    assert world.events.sent[-1][0] == "Model Declined"
    world.upload("dogs.json", b'{"gate": {"min_accuracy": 0.9}}')
    second = look_at_dataset("dogs", world.services()) or ""
    assert go_to_the_end(world, second) == "deployed"


def test_a_newer_run_moves_the_endpoint(world: World) -> None:
    """The second version updates the endpoint of the first, which stays deployed in its own result."""
    first = start(world)
    go_to_the_end(world, first)
    world.upload("dogs.zip", build_small_zip(1))
    second = look_at_dataset("dogs", world.services()) or ""
    assert go_to_the_end(world, second) == "deployed"
    [endpoint] = world.sagemaker.kept["Endpoint"].values()
    assert endpoint["EndpointConfigName"] == second
    assert world.sagemaker.count("UpdateEndpoint") == 1


def test_an_older_run_gives_way_to_a_newer_one(world: World) -> None:
    """If the newer run is on the endpoint already, the older one ends `superseded`."""
    first = start(world)
    world.upload("dogs.zip", build_small_zip(1))
    second = look_at_dataset("dogs", world.services()) or ""
    go_to_the_end(world, second)
    assert go_to_the_end(world, first) == "superseded"
    assert second in read_result(world, first)[1]


def test_a_rollback_is_a_failure(world: World) -> None:
    """InService on the old config after an update means that the new model did not start."""
    first = start(world)
    go_to_the_end(world, first)
    world.upload("dogs.zip", build_small_zip(1))
    second = look_at_dataset("dogs", world.services()) or ""
    go_on(world, second)
    go_on(world, second)
    world.end_deployment(world.read(f"runs/{second}/run.json")["endpoint"], reason="health check failed")
    assert advance(second, world.services()) == "failed"
    assert "health check failed" in read_result(world, second)[1]


def test_a_failed_endpoint_is_cleared_away_by_the_next_run(world: World) -> None:
    """The first run fails. The next one deletes the endpoint, which alone is allowed, and creates it."""
    first = start(world)
    go_on(world, first)
    go_on(world, first)
    world.end_deployment(world.read(f"runs/{first}/run.json")["endpoint"], "Failed", "no capacity")
    assert advance(first, world.services()) == "failed"
    second = retry_run(first, world.services())
    assert go_to_the_end(world, second) == "deployed"
    assert [world.sagemaker.count(each) for each in ("DeleteEndpoint", "CreateEndpoint")] == [1, 2]


def test_a_retry_uses_the_same_input_whatever_was_uploaded_since(world: World) -> None:
    """The next attempt copies the input of the last one."""
    world.trial_scores = [None]
    first = start(world)
    go_on(world, first)
    world.s3.versions.pop("datasets/dogs.zip")
    second = retry_run(first, world.services())
    assert world.s3.versions[f"runs/{second}/input/dataset.zip"][-1].body == ZIP
    assert retry_while_active(world, first)


def retry_while_active(world: World, run_id: str) -> bool:
    with pytest.raises(Conflict, match="on its way"):
        retry_run(run_id, world.services())
    return True


def test_an_upload_that_was_deleted_before_it_was_copied(world: World) -> None:
    """The run says so and does not try for ever."""
    clean = World()
    start(clean)
    world.upload("dogs.zip", ZIP)
    world.trouble.plan = {clean.trouble.calls.index("copy_object"): "throttle"}
    with pytest.raises(WhippetError):
        look_at_dataset("dogs", world.services())
    world.s3.versions.pop("datasets/dogs.zip")
    world.trouble.plan = {}
    sweep(world.services())
    [key] = [key for key in world.list_keys("runs/") if key.endswith("result.json")]
    assert world.read(key)["status"] == "failed"
    assert "deleted" in world.read(key)["reason"]


@pytest.mark.parametrize("kind", ["HyperParameterTuningJob", "TrainingJob", "Model", "Endpoint"])
def test_a_quota_in_the_way_is_waited_for(world: World, kind: str) -> None:
    """A used-up quota lets the run wait, in AWS's words, until another run gives it back."""
    world.sagemaker.limits = {kind}
    run_id = start(world)
    statuses = [go_on(world, run_id) for _ in range(3)]
    assert statuses[-1] == "waiting"
    [listed] = list_runs(None, None, world.services())["runs"]
    assert (listed["status"], describe_run(run_id, world.services())["status"]) == ("waiting", "waiting")
    assert "service limit" in listed["reason"]
    world.sagemaker.limits = set()
    sweep(world.services())
    assert list_runs(None, None, world.services())["runs"][0]["status"] not in ("waiting", "failed")
    assert go_to_the_end(world, run_id) == "deployed"


def test_a_strangers_thing_of_our_name_is_not_taken_for_ours(world: World) -> None:
    """The run fails and names what is in its way; the stranger's job is neither used nor stopped."""
    world.upload("dogs.zip", ZIP)
    name = start(World())
    output = {"OutputDataConfig": {"S3OutputPath": "s3://elsewhere/"}}
    request = {"HyperParameterTuningJobName": name, "TrainingJobDefinition": output}
    world.sagemaker.create_hyper_parameter_tuning_job(**request)
    look_at_dataset("dogs", world.services())
    assert read_result(world, name)[0] == "failed"
    assert "not of this run" in read_result(world, name)[1]
    assert world.sagemaker.count("StopHyperParameterTuningJob") == 0


def test_notifications_that_fail_hold_nothing_up(world: World) -> None:
    """PutEvents accepts the call and refuses the event: the run goes on, and the event is sent later, once."""
    world.events.refuses = True
    run_id = start(world)
    assert go_to_the_end(world, run_id) == "deployed"
    assert world.events.sent == []
    assert world.list_keys("active/")
    world.events.refuses = False
    sweep(world.services())
    sweep(world.services())
    told = ["Tuning Started", "Training Started", "Deployment Started", "Model Deployed"]
    assert [name for name, _ in world.events.sent] == told
    assert world.list_keys("active/") == []


def test_every_notification_keeps_the_contract(world: World) -> None:
    """What is sent passes the schemas under events/, even for a dataset whose name no subject could hold."""
    name = "Hündchen 犬 " * 12
    world.upload(f"{name}.zip", build_small_zip())
    for _ in range(5):
        sweep(world.services())
        world.end_everything()
    world.upload("broken.zip", b"no zip")
    look_at_dataset("broken", world.services())
    assert len(world.events.sent) == len(world.sns.sent) == 5
    for detail_type, detail in world.events.sent:
        assert complaints("whippet-detail", detail) == []
        assert detail["event"] == detail_type
    assert [complaints("whippet-notification", message) for message in world.sns.sent] == [[]] * 5


@pytest.mark.parametrize("channel", ["event", "message"])
def test_a_channel_that_refuses_keeps_the_other_from_nothing(world: World, channel: str) -> None:
    """For a day one of them refuses at every sweep: the other gets each notification once, and nothing is lost."""
    refusing, taking = (world.events, world.sns) if channel == "event" else (world.sns, world.events)
    refusing.refuses = True
    run_id = start(world)
    assert go_to_the_end(world, run_id) == "deployed"
    for _ in range(20):
        sweep(world.services())
        world.clock.sleep(600)
    assert (len(taking.sent), len(refusing.sent)) == (4, 0)
    refusing.refuses = False
    sweep(world.services())
    sweep(world.services())
    assert (len(taking.sent), len(refusing.sent)) == (4, 4)
    assert world.list_keys("active/") == []


def test_marks_of_an_earlier_version_count_for_both_channels(world: World) -> None:
    """An update of the app in mid-run sends nothing again."""
    run_id = start(world)
    for key in world.list_keys(f"runs/{run_id}/notices/"):
        del world.s3.versions[key]
    world.s3.store(f"runs/{run_id}/notices/tuning-started.json", b"{}")
    advance(run_id, world.services())
    assert len(world.events.sent) == len(world.sns.sent) == 1


@pytest.mark.parametrize("stage", ["tuning", "training"])
@pytest.mark.parametrize("is_killed", [False, True])
def test_what_is_launched_at_the_moment_of_a_stop_is_paid_for_and_told(
    world: World, stage: str, is_killed: bool
) -> None:
    """A look has decided to launch, and the whole stop comes before its call: stopped, in the ledger, announced."""
    clean = World()
    first = start(clean)
    go_on(clean, first)
    operation = {"tuning": "create_hyper_parameter_tuning_job", "training": "create_training_job"}[stage]
    call = clean.trouble.calls.index(operation)
    world.trouble.other = lambda: stop_run(find_active(world), "ann", world.services()) and None
    world.trouble.plan = {call: "meanwhile after" if is_killed else "meanwhile"}
    with contextlib.suppress(Killed):
        run_id = start(world)
        go_on(world, run_id)
    world.clock.sleep(1_000)
    for _ in range(6):
        sweep(world.services())
        world.end_everything()
        world.clock.sleep(200)
    assert read_result(world, first)[0] == "stopped"
    assert world.list_keys("active/") == []
    started = {"tuning": "Tuning Started", "training": "Training Started"}[stage]
    assert started in [name for name, _ in world.events.sent]
    [month] = world.list_keys("ledger/")
    [entry] = world.read(month)["runs"].values()
    assert entry["state"] == "settled"
    settled = world.read(f"runs/{first}/settlement.json")["spent_usd"]
    assert entry["usd"] == settled > 0


def find_active(world: World) -> str:
    return world.list_keys("active/")[0].removeprefix("active/")
