"""The contract of tuning jobs, through boto3, against a real server, real processes and the real clock."""

from __future__ import annotations

from typing import Any

from tests.localcloud.sagemaker.simulation import build_tuning_request
from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, pack, wait_until

TRIAL = """
import json, math, os, time
rate = json.loads(os.environ["SM_HPS"])["learning_rate"]
for epoch in range(3):
    print(f"epoch={epoch} cores={os.environ['SM_NUM_CPUS']} valid:score={1 - math.log10(rate) ** 2 - 1 / (epoch + 1)}")
    time.sleep(0.02)
"""
SLEEP = "import time\nprint('valid:score=0.5')\ntime.sleep(60)"


def create(local: LocalSageMaker, program: str, **changes: Any) -> str:
    """Create a tuning job of the program, and return its name."""
    name = name_job("tune")
    code = local.put(f"code/{name}.tar.gz", pack({"train.py": program}))
    request = build_tuning_request(name, code, f"s3://{local.bucket}/out", **changes)
    local.sagemaker.create_hyper_parameter_tuning_job(**request)
    return name


def describe(local: LocalSageMaker, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = local.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    return answer


def finish(local: LocalSageMaker, name: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        tuning = describe(local, name)
        return tuning if tuning["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped") else None

    tuning: dict[str, Any] = wait_until(ended, 30)
    return tuning


def test_real_trials_are_tuned(local: LocalSageMaker) -> None:
    """Four trials run as processes, two at a time with half of the cores each. The best trial's model is in S3."""
    program = TRIAL + 'open(os.environ["SM_MODEL_DIR"] + "/model.pth", "w").write(str(rate))'
    tuning = finish(local, create(local, program, jobs=4))
    best = tuning["BestTrainingJob"]
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    assert tuning["TrainingJobStatusCounters"]["Completed"] == tuning["ObjectiveStatusCounters"]["Succeeded"] == 4
    job = local.describe(best["TrainingJobName"])
    assert job["TuningJobArn"] == tuning["HyperParameterTuningJobArn"]
    rate = best["TunedHyperParameters"]["learning_rate"]
    assert local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.pth": rate.encode()}
    assert "cores=2" in local.log(best["TrainingJobName"])


def test_lists_of_tuning_jobs_and_their_children(local: LocalSageMaker) -> None:
    """boto3's paginators list them, with the summaries' members."""
    name = create(local, TRIAL, jobs=3)
    finish(local, name)
    (summary,) = local.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    assert (summary["Strategy"], summary["HyperParameterTuningJobStatus"]) == ("Bayesian", "Completed")
    assert summary["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2}
    paginator = local.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    pages = paginator.paginate(HyperParameterTuningJobName=name, MaxResults=2, StatusEquals="Completed")
    children = [child for page in pages for child in page["TrainingJobSummaries"]]
    assert [child["TrainingJobName"][: len(name) + 4] for child in children] == [f"{name}-00{n}" for n in (1, 2, 3)]
    assert all(child["ObjectiveStatus"] == "Succeeded" for child in children)


def test_stop_ends_real_children(local: LocalSageMaker) -> None:
    """The stop ends the children's processes. The tuning job is Stopped when they have ended."""
    name = create(local, SLEEP, jobs=8)
    wait_until(lambda: describe(local, name)["TrainingJobStatusCounters"]["InProgress"] == 2)
    wait_until(lambda: len([e for e in local.events if is_training(e, name)]) == 2)
    local.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    tuning = finish(local, name)
    assert tuning["HyperParameterTuningJobStatus"] == "Stopped"
    assert tuning["TrainingJobStatusCounters"]["Stopped"] == 2


def test_a_hopeless_trial_is_stopped_while_it_runs(local: LocalSageMaker) -> None:
    """TrainingJobEarlyStoppingType Auto ends a worse fourth trial, which would sleep for a minute."""
    program = """
import os, time
worse = "-004-" in os.environ["TRAINING_JOB_NAME"]
print(f"valid:score={0.1 if worse else 0.5}")
time.sleep(60 if worse else 0)
"""
    name = create(local, program, jobs=4, parallel=1, config={"TrainingJobEarlyStoppingType": "Auto"})
    assert finish(local, name)["TrainingJobStatusCounters"] == {
        "Completed": 3,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 1,
    }


def is_training(event: dict[str, Any], tuning: str) -> bool:
    detail = event["detail"]
    return detail.get("TrainingJobName", "").startswith(f"{tuning}-") and detail["SecondaryStatus"] == "Training"
