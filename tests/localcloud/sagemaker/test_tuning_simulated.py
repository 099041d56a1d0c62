"""Tuning jobs in simulated time: strategies, limits, early stopping, faults and kills."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcloud.common.faults import Faults
from localcloud.common.store import Record
from localcloud.protocol.errors import ResourceInUse, ServiceError
from localcloud.sagemaker.core.cloud import Outcome
from tests.localcloud.sagemaker.simulation import RANGES, Course, World, build_tuning_request

GRID = {
    "CategoricalParameterRanges": [
        {"Name": "batch_size", "Values": ["16", "32"]},
        {"Name": "fine_tune", "Values": ["all", "last_block", "head"]},
    ]
}
EPOCHS = 9


def learn(job: Record) -> Course:
    """Return objective values that rise towards a peak at learning_rate 2, in nine epochs of ten seconds."""
    distance = math.log10(float(job["HyperParameters"]["learning_rate"])) - math.log10(2)
    return Course([1 - distance**2 - 1 / (epoch + 1) for epoch in range(EPOCHS)])


def shift(job: Record) -> Course:
    """Return values around zero, including zero itself."""
    return Course([int(job["TrainingJobName"].split("-")[1]) - 3.0])


def fail(_: Record) -> Course:
    return Course((), Outcome("Failed", reason="AlgorithmError: no, exit code: 1"))


def test_a_tuning_job_runs_its_trials_and_names_the_best(tmp_path: Path) -> None:
    """Six trials run, two at a time. Counters, best training job, names and hyperparameters are as SageMaker's."""
    world = World(tmp_path, learn)
    tuning = world.tune(static={"epochs": "9"})
    children = world.children()
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    assert tuning["TrainingJobStatusCounters"]["Completed"] == tuning["ObjectiveStatusCounters"]["Succeeded"] == 6
    assert world.runner.most_at_once == 2
    best = max(children, key=lambda child: child["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
    assert tuning["BestTrainingJob"] == best
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "valid:score"
    job = world.call("DescribeTrainingJob", TrainingJobName=best["TrainingJobName"])
    assert job["TuningJobArn"] == tuning["HyperParameterTuningJobArn"]
    assert job["HyperParameters"]["_tuning_objective_metric"] == "valid:score"
    assert job["HyperParameters"]["epochs"] == "9"
    assert {name: job["HyperParameters"][name] for name in best["TunedHyperParameters"]} == best["TunedHyperParameters"]
    for number, child in enumerate(children, 1):
        prefix, hexadecimal = child["TrainingJobName"].rsplit("-", 1)
        assert prefix == f"tuning-{number:03d}"
        assert len(hexadecimal) == 8


def test_events_tell_of_the_tuning_job_and_of_its_children(tmp_path: Path) -> None:
    """It sends one event at its start and one at its end. Its children's carry TuningJobArn and its tags."""
    world = World(tmp_path, learn)
    tuning = world.tune(request={"Tags": [{"Key": "whippet:run", "Value": "r"}]})
    own = [
        event for event in world.events if event["detail-type"] == "SageMaker HyperParameter Tuning Job State Change"
    ]
    assert [event["detail"]["HyperParameterTuningJobStatus"] for event in own] == ["InProgress", "Completed"]
    assert own[0]["detail"]["BestTrainingJob"] is None
    assert isinstance(own[1]["detail"]["HyperParameterTuningEndTime"], int)
    children = [event for event in world.events if event not in own]
    assert {event["detail"]["TuningJobArn"] for event in children} == {tuning["HyperParameterTuningJobArn"]}
    assert all(event["detail"]["Tags"] == {"whippet:run": "r"} for event in [*own, *children])


def test_a_broken_event_bus_stops_no_job(tmp_path: Path) -> None:
    """Events are lost, as AWS's may be. The tuning job continues."""
    world = World(tmp_path, learn)

    def break_off(_: dict[str, Any]) -> None:
        raise OSError("no bus")

    world.cloud.emit = break_off
    assert world.tune(jobs=2)["HyperParameterTuningJobStatus"] == "Completed"


@pytest.mark.parametrize("strategy", ["Bayesian", "Random"])
def test_trials_are_the_same_for_the_same_seed(tmp_path: Path, strategy: str) -> None:
    """RandomSeed decides what is tried. Another seed tries something else."""
    tried = []
    for number, seed in enumerate((7, 7, 8)):
        world = World(tmp_path / str(number), learn)
        world.tune(strategy=strategy, config={"RandomSeed": seed})
        tried.append([child["TunedHyperParameters"] for child in world.children()])
    assert tried[0] == tried[1] != tried[2]


def test_bayesian_search_comes_closer_than_chance(tmp_path: Path) -> None:
    """Of twenty trials, TPE's last ten are better on average than random search's."""
    means = {}
    for strategy in ("Bayesian", "Random"):
        world = World(tmp_path / strategy, learn)
        world.tune(strategy=strategy, jobs=20)
        values = [child["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for child in world.children()]
        means[strategy] = sum(values[10:]) / 10
    assert means["Bayesian"] > means["Random"]


def test_grid_tries_every_combination_once(tmp_path: Path) -> None:
    """It tries six combinations of two categorical ranges. MaxNumberOfTrainingJobs may be left out."""
    world = World(tmp_path)
    world.tune(strategy="Grid", ranges=GRID, jobs=None)
    tried = {tuple(child["TunedHyperParameters"].values()) for child in world.children()}
    assert len(world.children()) == len(tried) == 6


def test_hyperband_stops_what_is_not_promising(tmp_path: Path) -> None:
    """Some of twelve trials end early as Stopped, and their objective counts. The best one runs to its end."""
    world = World(tmp_path, learn)
    tuning = world.tune(strategy="Hyperband", jobs=12, static={"epochs": str(EPOCHS)})
    assert tuning["TrainingJobStatusCounters"]["Stopped"] > 0
    assert tuning["ObjectiveStatusCounters"]["Succeeded"] == 12
    assert tuning["BestTrainingJob"]["TrainingJobStatus"] == "Completed"


def test_auto_early_stopping_follows_the_median_of_running_averages(tmp_path: Path) -> None:
    """After three finished trials a hopeless fourth is stopped at its first value."""

    def course(job: Record) -> Course:
        number = int(job["TrainingJobName"].split("-")[1])
        return Course([0.5 if number < 4 else 0.1] * EPOCHS)

    world = World(tmp_path, course)
    world.tune(jobs=4, parallel=1, config={"TrainingJobEarlyStoppingType": "Auto"})
    assert [child["TrainingJobStatus"] for child in world.children()] == ["Completed"] * 3 + ["Stopped"]
    last = world.call("DescribeTrainingJob", TrainingJobName=world.children()[-1]["TrainingJobName"])
    assert last["TrainingTimeInSeconds"] < 20


@pytest.mark.parametrize(
    ("criteria", "jobs"),
    [
        ({"TargetObjectiveMetricValue": 0.7}, 3),
        ({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}, 8),
    ],
)
def test_completion_criteria_end_a_tuning_job_early(tmp_path: Path, criteria: Record, jobs: int) -> None:
    """The target value, or so many trials without a better one, end it Completed with fewer trials."""

    def course(job: Record) -> Course:
        number = int(job["TrainingJobName"].split("-")[1])
        return Course([min(0.5 + number / 10, 1.0)])

    world = World(tmp_path, course)
    tuning = world.tune(jobs=50, parallel=1, config={"TuningJobCompletionCriteria": criteria})
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    if "TargetObjectiveMetricValue" in criteria:
        assert len(world.children()) == 2
    else:
        assert len(world.children()) == jobs
        assert tuning["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3


def test_the_time_limit_stops_the_running_trials(tmp_path: Path) -> None:
    """MaxRuntimeInSeconds ends it as Stopped, and its results are kept."""
    world = World(tmp_path, learn)
    tuning = world.tune(jobs=50, limits={"MaxRuntimeInSeconds": 150})
    assert tuning["HyperParameterTuningJobStatus"] == "Stopped"
    assert [child["TrainingJobStatus"] for child in world.children()] == ["Completed"] * 2 + ["Stopped"] * 2
    assert "BestTrainingJob" in tuning


def test_stop_stops_the_children_first(tmp_path: Path) -> None:
    """It is Stopping while they end, then Stopped. No further trial begins, and a second stop is refused."""
    world = World(tmp_path, learn)
    world.call("CreateHyperParameterTuningJob", **build_tuning_request("tuning"))
    world.clock.run(12)
    world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tuning")
    assert world.describe()["HyperParameterTuningJobStatus"] == "Stopping"
    world.clock.run()
    assert world.describe()["HyperParameterTuningJobStatus"] == "Stopped"
    assert {child["TrainingJobStatus"] for child in world.children()} == {"Stopped"}
    with pytest.raises(ServiceError, match="is in status Stopped"):
        world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tuning")


def test_a_tuning_job_without_a_success_fails(tmp_path: Path) -> None:
    """When every trial fails, so does the tuning job, with AWS's text, and it names no best training job."""
    tuning = World(tmp_path, fail).tune()
    assert tuning["HyperParameterTuningJobStatus"] == "Failed"
    assert tuning["FailureReason"].startswith("All training jobs failed.")
    assert tuning["TrainingJobStatusCounters"]["NonRetryableError"] == 6
    assert "BestTrainingJob" not in tuning


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_search_that_breaks_fails_its_tuning_job(tmp_path: Path) -> None:
    """A range too wide for floating point does not make it wait for ever: it is Failed, with the reason."""
    wide = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "-1.7e308", "MaxValue": "1.7e308"}]}
    tuning = World(tmp_path).tune(ranges=wide)
    assert tuning["HyperParameterTuningJobStatus"] == "Failed"
    assert tuning["FailureReason"].startswith("InternalServerError: OverflowError")


def test_a_trial_without_a_value_counts_as_failed_objective(tmp_path: Path) -> None:
    """A Completed job whose log never named the metric has ObjectiveStatus Failed."""
    world = World(tmp_path, lambda job: Course(() if "-001-" in job["TrainingJobName"] else (0.5,)))
    assert world.tune()["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 1}


def test_minimising_prefers_the_smallest(tmp_path: Path) -> None:
    """The objective's Type reverses every comparison."""
    world = World(tmp_path, learn)
    tuning = world.tune(objective="Minimize")
    values = [child["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for child in world.children()]
    assert tuning["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == min(values)


def test_warm_start_learns_from_its_parents(tmp_path: Path) -> None:
    """A child begins where the parent's trials point to, and names the best of all, including the parents'."""
    world = World(tmp_path, learn)
    world.tune("parent", jobs=20)
    warm = {
        "WarmStartType": "IdenticalDataAndAlgorithm",
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
    }
    tuning = world.tune("child", jobs=2, parallel=1, request={"WarmStartConfig": warm})
    best = [world.describe(name)["BestTrainingJob"] for name in ("parent", "child")]
    values = [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in best]
    assert tuning["OverallBestTrainingJob"] == best[values.index(max(values))]
    assert values[1] > 0.5
    unknown = warm | {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "nobody"}]}
    with pytest.raises(ServiceError, match="The parent tuning job 'nobody' does not exist"):
        world.tune("orphan", request={"WarmStartConfig": unknown})


def test_children_can_be_listed_by_their_objective(tmp_path: Path) -> None:
    """SortBy FinalObjectiveMetricValue leaves out those without a value."""
    world = World(tmp_path, lambda job: fail(job) if "-002-" in job["TrainingJobName"] else shift(job))
    world.tune()
    answer = world.call(
        "ListTrainingJobsForHyperParameterTuningJob",
        HyperParameterTuningJobName="tuning",
        SortBy="FinalObjectiveMetricValue",
        SortOrder="Descending",
    )["TrainingJobSummaries"]
    values = [child["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for child in answer]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("a name twice", {"request": {"HyperParameterTuningJobName": "TAKEN"}}, "must be unique within an AWS account"),
    ("grid over numbers", {"strategy": "Grid", "jobs": None}, "supports categorical parameter ranges only"),
    ("grid of another size", {"strategy": "Grid", "ranges": GRID, "jobs": 5}, "the number of its combinations, 6"),
    ("hyperband without epochs", {"strategy": "Hyperband"}, "needs a MaxResource"),
    (
        "hyperband with Auto",
        {"strategy": "Hyperband", "config": {"TrainingJobEarlyStoppingType": "Auto"}},
        "must be Off",
    ),
    ("no limit", {"jobs": None}, "MaxNumberOfTrainingJobs must be specified"),
    ("no range", {"ranges": {"CategoricalParameterRanges": []}}, "at least one parameter range"),
    ("static and tuned", {"static": {"batch_size": "16"}}, "both static and tuned"),
    (
        "a range upside down",
        {"ranges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "2", "MaxValue": "1"}]}},
        "must be less than its MaxValue",
    ),
    (
        "no number",
        {"ranges": {"IntegerParameterRanges": [{"Name": "x", "MinValue": "1.5", "MaxValue": "4"}]}},
        "must be an integer: '1.5'",
    ),
    (
        "log from zero",
        {
            "ranges": {
                "ContinuousParameterRanges": [
                    {"Name": "x", "MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}
                ]
            }
        },
        "greater than 0",
    ),
    (
        "unknown objective",
        {"config": {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "x"}}},
        "isn't valid",
    ),
    (
        "convergence",
        {"config": {"TuningJobCompletionCriteria": {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}}},
        "does not detect convergence",
    ),
    ("autotune", {"request": {"Autotune": {"Mode": "Enabled"}}}, "does not support Autotune"),
]


@pytest.mark.parametrize(("changes", "text"), [item[1:] for item in REFUSALS], ids=[item[0] for item in REFUSALS])
def test_what_makes_no_sense_or_is_not_supported_is_refused(tmp_path: Path, changes: Record, text: str) -> None:
    """Each refusal says what to change, and nothing is launched."""
    world = World(tmp_path)
    world.tune("taken", jobs=1)
    with pytest.raises(ServiceError, match=text) as caught:
        world.call("CreateHyperParameterTuningJob", **build_tuning_request("tuning", **changes))
    assert isinstance(caught.value, ResourceInUse) == ("unique" in text)
    assert len(world.runner.started) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_history_loses_a_trial(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever fails, stops or is killed, and whenever: the tuning job ends, with as many trials as it may launch, each
    once, never more at once than it may, and its counters add up."""
    seed = data.draw(st.integers(0, 2**16))
    jobs = data.draw(st.integers(1, 8))
    parallel = data.draw(st.integers(1, min(4, jobs)))
    strategy = data.draw(st.sampled_from(["Bayesian", "Random", "Hyperband"]))
    fates = data.draw(st.lists(st.sampled_from(["learn", "fail", "silent", "stopped"]), min_size=1, max_size=4))

    def course(job: Record) -> Course:
        fate = fates[int(job["TrainingJobName"].split("-")[1]) % len(fates)]
        if fate == "fail":
            return fail(job)
        if fate == "stopped":
            return Course((0.1, 0.2), Outcome("Stopped", "MaxRuntimeExceeded"))
        return learn(job) if fate == "learn" else Course(())

    world = World(tmp_path_factory.mktemp("world"), course, slots=data.draw(st.integers(1, 3)))
    changes = {"static": {"epochs": "9"}, "config": {"RandomSeed": seed}}
    request = build_tuning_request("tuning", strategy=strategy, jobs=jobs, parallel=parallel, **changes)
    world.call("CreateHyperParameterTuningJob", **request)
    for calls in data.draw(st.lists(st.integers(0, 40), max_size=3)):
        world.clock.run(calls)
        world.kill_and_restart()
    stop_after = data.draw(st.none() | st.integers(0, 60))
    if stop_after is not None:
        world.clock.run(stop_after)
        if world.describe()["HyperParameterTuningJobStatus"] == "InProgress":
            world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tuning")
    world.clock.run()
    tuning, children = world.describe(), world.children()
    assert tuning["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped")
    assert len(children) == jobs or tuning["HyperParameterTuningJobStatus"] == "Stopped"
    assert len({child["TrainingJobName"] for child in children}) == len(children)
    assert world.runner.most_at_once <= parallel
    assert sum(tuning["TrainingJobStatusCounters"].values()) == len(children)
    assert tuning["TrainingJobStatusCounters"]["InProgress"] == tuning["ObjectiveStatusCounters"]["Pending"] == 0


def test_a_killed_cloud_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    """After a kill in the middle, the same hyperparameters are tried as without it."""
    tried = []
    for calls in (None, 25):
        world = World(tmp_path / str(calls), learn)
        world.call("CreateHyperParameterTuningJob", **build_tuning_request("tuning", parallel=1, ranges=RANGES))
        if calls is not None:
            world.clock.run(calls)
            world.kill_and_restart()
        world.clock.run()
        assert world.describe()["HyperParameterTuningJobStatus"] == "Completed"
        tried.append([child["TunedHyperParameters"] for child in world.children()])
    assert tried[0] == tried[1]


@pytest.mark.parametrize(("layout", "ends"), [("shared", "jobs/"), ("appended", "jobs/{}")])
def test_children_share_the_checkpoint_prefix_or_get_their_own(tmp_path: Path, layout: Any, ends: str) -> None:
    """AWS documents neither, so a setting chooses. DescribeTrainingJob shows what a child really uses."""
    world = World(tmp_path)
    world.faults = Faults(tuning_checkpoints=layout)
    request = build_tuning_request("tuning")
    request["TrainingJobDefinition"]["CheckpointConfig"] = {"S3Uri": "s3://training/runs/one/jobs/"}
    world.call("CreateHyperParameterTuningJob", **request)
    world.clock.run()
    children = [child["TrainingJobName"] for child in world.children()]
    configs = [world.call("DescribeTrainingJob", TrainingJobName=name)["CheckpointConfig"] for name in children]
    assert configs == [{"S3Uri": f"s3://training/runs/one/{ends.format(name)}"} for name in children]
    assert world.describe()["TrainingJobDefinition"]["CheckpointConfig"] == {"S3Uri": "s3://training/runs/one/jobs/"}


def test_a_trial_that_ends_with_no_number_is_not_the_best(tmp_path: Path) -> None:
    """A diverged trial has no final value: it counts as failed and never wins, though the job completed."""

    def diverge(job: Record) -> Course:
        number = int(job["TrainingJobName"].split("-")[1])
        return Course([0.9, math.nan] if number % 2 else [0.1 * number])

    tuning = World(tmp_path, diverge).tune()
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    assert tuning["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 3}
    assert tuning["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == pytest.approx(0.6)


def test_transfer_learning_names_its_own_best_trial(tmp_path: Path) -> None:
    """A parent's trial on other data may have a higher value: it is no trial of this job, and is not named at all."""
    world = World(tmp_path, lambda job: Course([2.0 if job["TrainingJobName"].startswith("parent") else 0.5]))
    world.tune("parent", jobs=4)
    parents = [{"HyperParameterTuningJobName": "parent"}]
    warm = {"WarmStartType": "TransferLearning", "ParentHyperParameterTuningJobs": parents}
    tuning = world.tune("child", jobs=2, request={"WarmStartConfig": warm})
    assert tuning["BestTrainingJob"]["TrainingJobName"].startswith("child-")
    assert "OverallBestTrainingJob" not in tuning
