"""Use the unmodified `sagemaker` SDK v3 as a user does: `python -m tests.localcloud.server.sdk_client PLACES SEEN`.

This is a program of its own because the SDK takes seconds to import. It does everything once and writes what it saw to
the file SEEN, for the tests. The file PLACES says where the programs and the data are, and names the role.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sagemaker.core.analytics import HyperparameterTuningJobAnalytics
from sagemaker.core.parameter import CategoricalParameter, ContinuousParameter
from sagemaker.core.resources import Endpoint, EndpointConfig, HyperParameterTuningJob, Model, TrainingJob
from sagemaker.core.shapes import (
    ContainerDefinition,
    MetricDefinition,
    OutputDataConfig,
    ProductionVariant,
    StoppingCondition,
)
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.core.utils.exceptions import FailedStatusError
from sagemaker.train import ModelTrainer
from sagemaker.train.tuner import HyperparameterTuner

Places = dict[str, Any]
METRIC = {"Name": "valid:score", "Regex": "valid:score=([-+0-9.eE]+)"}


def make_trainer(places: Places, name: str, **changes: Any) -> ModelTrainer:
    """Build a trainer of the folder's train.py, as the SDK's own guide does."""
    trainer = ModelTrainer(
        training_image=places["image"],
        role=places["role"],
        base_job_name=name,
        compute=Compute(instance_type="ml.m5.xlarge", instance_count=1, volume_size_in_gb=10),
        output_data_config=OutputDataConfig(s3_output_path=places["out"]),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
        **changes,
    )
    return trainer.with_metric_definitions([MetricDefinition(name=METRIC["Name"], regex=METRIC["Regex"])])


def start(places: Places, entry: str, name: str) -> TrainingJob:
    """Start a training of `source_code`, with a channel of data."""
    trainer = make_trainer(
        places,
        name,
        source_code=SourceCode(source_dir=places["source"], entry_script=entry),
        hyperparameters={"rate": 0.25, "label": "a b"},
        environment={"COLOUR": "blue"},
    )
    trainer.train(input_data_config=[InputData(channel_name="data", data_source=places["data"])], wait=False)
    return trainer._latest_training_job


def tune(places: Places, entry: str, name: str) -> HyperparameterTuner:
    """Start a search for the best rate and label, two trials at a time."""
    trainer = make_trainer(
        places, name, source_code=SourceCode(source_dir=places["source"], entry_script=entry), hyperparameters={"x": 1}
    )
    ranges = {"rate": ContinuousParameter(0.1, 0.9), "label": CategoricalParameter(["a b", "c"])}
    tuner = HyperparameterTuner(
        trainer,
        METRIC["Name"],
        ranges,
        metric_definitions=[METRIC],
        max_jobs=2,
        max_parallel_jobs=2,
        random_seed=1,
    )
    tuner.tune(inputs={"data": places["data"]}, job_name=name, wait=False)
    return tuner


def wait(job: TrainingJob) -> None:
    """Wait for the end, whatever it is, with the job's log: the SDK raises an error for a job that fails."""
    try:
        job.wait(poll=1, timeout=60, logs=True)
    except FailedStatusError as error:
        print(error, file=sys.stderr)


def describe(job: TrainingJob) -> dict[str, Any]:
    job.refresh()
    return {
        "name": job.training_job_name,
        "status": job.training_job_status,
        "reason": job.failure_reason if isinstance(job.failure_reason, str) else None,
        "model": job.model_artifacts.s3_model_artifacts,
        "metrics": {metric.metric_name: metric.value for metric in job.final_metric_data_list or []},
    }


def analyse(places: Places, tuner: HyperparameterTuner) -> dict[str, Any]:
    """Return what the tuner and the SDK's table of a tuning job say about a finished search."""
    analytics = tuner.analytics()
    table = analytics.dataframe()
    best = table.sort_values("FinalObjectiveValue").iloc[-1]
    return {
        "status": tuner.describe().hyper_parameter_tuning_job_status,
        "best": tuner.best_training_job(),
        "columns": sorted(table.columns),
        "statuses": list(table["TrainingJobStatus"]),
        "best in table": [best["TrainingJobName"], best["FinalObjectiveValue"], best["rate"]],
        "ranges": sorted(analytics.tuning_ranges),
        "children": [child.training_job_name for child in tuner.latest_tuning_job.get_all_training_jobs()],
    }


def serve(places: Places, archive: str, name: str) -> dict[str, Any]:
    """Deploy a trained archive, query it, list it, and remove everything again."""
    container = ContainerDefinition(image=places["serving image"], model_data_url=archive)
    model = Model.create(model_name=name, primary_container=container, execution_role_arn=places["role"])
    variant = ProductionVariant(
        variant_name="main", model_name=name, instance_type="ml.m5.large", initial_instance_count=1
    )
    config = EndpointConfig.create(endpoint_config_name=name, production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name)
    endpoint.wait_for_status("InService", poll=1, timeout=60)
    answer = endpoint.invoke(body=b"hello", content_type="text/plain", accept="application/json")
    seen = {
        "answer": json.loads(answer.body.read()),
        "type": answer.content_type,
        "variant": answer.invoked_production_variant,
        "listed": [each.endpoint_name for each in Endpoint.get_all(name_contains=name)],
    }
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=60)
    config.delete()
    model.delete()
    return seen | {"left": [each.get_name() for kind in (Endpoint, Model) for each in kind.get_all(name_contains=name)]}


def main() -> None:
    places = json.loads(Path(sys.argv[1]).read_text())
    trained, failed, stopped = (start(places, f"{name}.py", name) for name in ("train", "broken", "slow"))
    search, halted = tune(places, "train.py", "search"), tune(places, "slow.py", "halted")
    stopped.stop()
    halted.stop_tuning_job()
    for job in (trained, failed, stopped):
        wait(job)
    search.latest_tuning_job.wait(poll=1, timeout=60)
    halted.latest_tuning_job.wait(poll=1, timeout=60)
    found = analyse(places, search)
    again = HyperparameterTuningJobAnalytics("search", search.sagemaker_session)
    best = TrainingJob.get(found["best"])
    seen = {
        "trained": describe(trained),
        "failed": describe(failed),
        "stopped": describe(stopped),
        "listed": [job.training_job_name for job in TrainingJob.get_all(status_equals="Failed")],
        "search": found,
        "read again": len(again.dataframe()),
        "halted": HyperParameterTuningJob.get("halted").hyper_parameter_tuning_job_status,
        "served": serve(places, best.model_artifacts.s3_model_artifacts, "served"),
    }
    Path(sys.argv[2]).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
