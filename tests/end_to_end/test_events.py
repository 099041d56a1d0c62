"""Test that duplicate, late and lost events leave exactly one of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import ENDED, upload_small_dataset
from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import build_colour_zip


def count_everything(cloud: LocalCloud, run_id: str) -> dict[str, int]:
    """Count the tuning jobs, training jobs (without trials) and endpoints that have the run's name."""
    tuning = cloud.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=run_id)["HyperParameterTuningJobSummaries"]
    training = cloud.sagemaker.list_training_jobs(NameContains=f"{run_id}-train")["TrainingJobSummaries"]
    configs = cloud.sagemaker.list_endpoint_configs(NameContains=run_id)["EndpointConfigs"]
    endpoint_prefix = run_id.rsplit("-", 1)[0]
    endpoints = cloud.sagemaker.list_endpoints(NameContains=endpoint_prefix)["Endpoints"]
    return {"tuning": len(tuning), "training": len(training), "configs": len(configs), "endpoints": len(endpoints)}


EXACTLY_ONE = {"tuning": 1, "training": 1, "configs": 1, "endpoints": 1}


def map_queues(cloud: LocalCloud) -> dict[str, list[str]]:
    """Return the queue of each rule's target, by the detail-type of the rule's events."""
    events, sqs = cloud.client("events"), cloud.client("sqs")
    queues: dict[str, list[str]] = {}
    for rule in events.list_rules()["Rules"]:
        detail_types = json.loads(rule.get("EventPattern", "{}")).get("detail-type", [])
        for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
            url = sqs.get_queue_url(QueueName=target["Arn"].rpartition(":")[2])["QueueUrl"]
            for detail_type in detail_types:
                queues.setdefault(detail_type, []).append(url)
    return queues


class Recorder:
    """Keep every event that the cloud emits, in a queue behind a rule of our own."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.sqs, self.events = cloud.client("sqs"), cloud.client("events")
        self.url = self.sqs.create_queue(QueueName="recorder")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = json.dumps({"source": ["aws.sagemaker", "aws.s3"]})
        self.events.put_rule(Name="recorder", EventPattern=pattern)
        self.queues = map_queues(cloud)
        self.events.put_targets(Rule="recorder", Targets=[{"Id": "recorder", "Arn": arn}])

    def take(self) -> list[str]:
        """Return the bodies of the events since the last call."""
        messages = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in messages]

    def deliver_again(self, bodies: list[str]) -> None:
        """Deliver the events to their functions once more."""
        for body in bodies:
            for url in self.queues.get(json.loads(body)["detail-type"], []):
                self.sqs.send_message(QueueUrl=url, MessageBody=body)

    def close(self) -> None:
        self.events.remove_targets(Rule="recorder", Ids=["recorder"])
        self.events.delete_rule(Name="recorder")
        self.sqs.delete_queue(QueueUrl=self.url)


@pytest.fixture
def recorder(cloud: LocalCloud) -> Iterator[Recorder]:
    recorder = Recorder(cloud)
    yield recorder
    recorder.close()


def test_doubled_and_late_events_leave_one_of_everything(cloud: LocalCloud, recorder: Recorder) -> None:
    """Every event is delivered twice, and all of them once more after the run has ended."""
    seen: list[str] = []
    upload_small_dataset(cloud, "doubled")

    def double_until_ended() -> dict[str, Any] | None:
        bodies = recorder.take()
        seen.extend(bodies)
        recorder.deliver_again(bodies)
        runs = cloud.list_runs("doubled")
        return runs[0] if runs and runs[0]["status"] in ENDED else None

    run = wait_until(double_until_ended, within=240, what="the run has ended")
    assert run["status"] == "deployed", run
    assert len(seen) >= 8
    recorder.deliver_again(seen)
    wait_until(lambda: True if are_empty(recorder) else None, within=60, what="the late events are handled")
    assert len(cloud.list_runs("doubled")) == 1
    assert count_everything(cloud, run["run_id"]) == EXACTLY_ONE


def are_empty(recorder: Recorder) -> bool:
    """Return whether no event is waiting for a function or being handled."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    for url in {url for urls in recorder.queues.values() for url in urls}:
        attributes = recorder.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        if any(int(attributes[name]) for name in names):
            return False
    return True


def test_lost_events_are_made_up_for_by_the_schedule(cloud: LocalCloud) -> None:
    """With every event rule switched off, including the upload's, the schedule alone takes the run to its end."""
    events = cloud.client("events")
    rules = [rule["Name"] for rule in events.list_rules()["Rules"] if rule.get("EventPattern")]
    for name in rules:
        events.disable_rule(Name=name)
    try:
        upload_small_dataset(cloud, "lost")
        wait_until(
            lambda: cloud.list_runs("lost") or sweep(cloud), within=60, what="the schedule finds the upload", every=1
        )

        def look() -> dict[str, Any] | None:
            sweep(cloud)
            run = cloud.list_runs("lost")[0]
            return run if run["status"] in ENDED else None

        run = wait_until(look, within=240, what="the run has ended", every=1)
    finally:
        for name in rules:
            events.enable_rule(Name=name)
    assert run["status"] == "deployed", run
    assert count_everything(cloud, run["run_id"]) == EXACTLY_ONE


def sweep(cloud: LocalCloud) -> None:
    """Let the schedule fire now: deliver its event to its function."""
    event = {
        "source": "aws.events",
        "detail-type": "Scheduled Event",
        "detail": {},
        "id": "now",
        "time": "2026-01-01T00:00:00Z",
    }
    event |= {"account": "123456789012", "region": "us-east-1", "resources": [], "version": "0"}
    sqs = cloud.client("sqs")
    (url,) = [url for url in sqs.list_queues()["QueueUrls"] if url.endswith("-sweep-events")]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))


def test_an_upload_of_the_same_name_changes_nothing_for_the_running_trials(cloud: LocalCloud) -> None:
    """The first run's input stays the same, and the second version becomes its own run."""
    upload_small_dataset(cloud, "again")
    first = cloud.wait_for_status("again", "tuning", *ENDED)
    pinned = cloud.s3.head_object(Bucket=cloud.bucket, Key=f"runs/{first['run_id']}/input/dataset.zip")["ETag"]
    cloud.upload("again.zip", build_colour_zip(seed=7))

    def both_ended() -> list[dict[str, Any]] | None:
        runs = cloud.list_runs("again")
        return runs if len(runs) == 2 and all(run["status"] in ENDED for run in runs) else None

    runs = wait_until(both_ended, within=400, what="both runs have ended")
    assert {run["status"] for run in runs} <= {"deployed", "superseded"}, runs
    assert runs[0]["status"] == "deployed"
    key = f"runs/{first['run_id']}/input/dataset.zip"
    assert cloud.s3.head_object(Bucket=cloud.bucket, Key=key)["ETag"] == pinned
    assert cloud.api.get("/models/again").json()["run_id"] == runs[0]["run_id"]
