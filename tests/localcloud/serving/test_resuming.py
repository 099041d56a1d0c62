"""A cloud that was closed, and is started again on the same folder."""

from __future__ import annotations

from pathlib import Path

from localcloud.sagemaker.hosting.endpoints import resume_endpoints
from localcloud.sagemaker.training.jobs import resume_training_jobs
from localcloud.sagemaker.tuning.jobs import resume_tuning_jobs
from tests.localcloud.jobs.test_tuning_jobs import describe, finish, is_training
from tests.localcloud.sagemaker.simulation import build_tuning_request
from tests.localcloud.sagemaker_support import local_sagemaker, name_job, pack, wait_until
from tests.localcloud.serving.endpoint_support import NAMED_MODEL, serve_endpoints


def test_a_closed_cloud_goes_on_when_it_is_opened_again(tmp_path: Path) -> None:
    """Its running trial is killed, stays InProgress, and is launched again with its checkpoint. The tuning job ends."""
    program = """
import os, sys, time
mark = os.environ["SAGEMAKER_BASE_DIR"] + "/checkpoints/seen"
if os.path.exists(mark):
    print("resumed valid:score=0.9")
    sys.exit(0)
os.makedirs(os.path.dirname(mark), exist_ok=True)
open(mark, "w").close()
print("first valid:score=0.1")
time.sleep(60)
"""
    with local_sagemaker(tmp_path) as local:
        name = name_job("tune")
        code = local.put(f"code/{name}.tar.gz", pack({"train.py": program}))
        request = build_tuning_request(name, code, f"s3://{local.bucket}/out", jobs=1, parallel=1)
        request["TrainingJobDefinition"]["CheckpointConfig"] = {"S3Uri": f"s3://{local.bucket}/checkpoints/"}
        local.sagemaker.create_hyper_parameter_tuning_job(**request)
        wait_until(lambda: [e for e in local.events if is_training(e, name)])
        child = local.sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"][0]["TrainingJobName"]
        wait_until(lambda: "first" in local.log(child))
    with local_sagemaker(tmp_path) as local:
        assert describe(local, name)["HyperParameterTuningJobStatus"] == "InProgress"
        resume_training_jobs(local.cloud)
        resume_tuning_jobs(local.cloud)
        tuning = finish(local, name)
        assert tuning["BestTrainingJob"]["TrainingJobName"] == child
        assert tuning["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.9
        assert "resumed" in local.log(child)


def test_a_cloud_that_is_closed_while_an_endpoint_starts_has_not_failed_it(tmp_path: Path) -> None:
    """Its server is ended, it stays Creating, and the next cloud brings it into service."""
    slow = f"import os, time\ntime.sleep(0 if os.path.exists({str(tmp_path / 'quick')!r}) else 20)\n{NAMED_MODEL}"
    with local_sagemaker(tmp_path) as local, serve_endpoints(local) as hosting:
        endpoint = hosting.create_endpoint(hosting.create_config(hosting.create_model(slow)), wait=False)
        wait_until(lambda: list(local.home.rglob("inference.py")))
    (tmp_path / "quick").touch()
    with local_sagemaker(tmp_path) as local, serve_endpoints(local) as hosting:
        assert hosting.describe(endpoint)["EndpointStatus"] == "Creating"
        resume_endpoints(local.cloud)
        assert hosting.wait(endpoint)["EndpointStatus"] == "InService"
