"""A training job's record under any sequence of reports: pure functions, tested with hypothesis."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from localcloud.common.store import Record
from localcloud.protocol.service_model import find_operation, serialise
from localcloud.sagemaker.core.cloud import Outcome
from localcloud.sagemaker.training.jobs import (
    ENDED,
    add_metrics,
    begin_stop,
    build_record,
    count_time,
    enter_stage,
    finish,
    show,
)
from tests.localcloud.sagemaker_support import build_training_request

START = datetime(2026, 1, 1, tzinfo=UTC)
SHAPE = find_operation("sagemaker", "DescribeTrainingJob").output_shape

reports = st.one_of(
    st.tuples(st.just("stage"), st.sampled_from(["Starting", "Downloading", "Training", "Uploading"])),
    st.tuples(st.just("metrics"), st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(-1, 1)), max_size=3)),
    st.tuples(
        st.just("finish"),
        st.sampled_from(
            [
                Outcome("Completed"),
                Outcome("Stopped"),
                Outcome("Stopped", "MaxRuntimeExceeded"),
                Outcome("Failed", reason="x" * 2000),
            ]
        ),
    ),
    st.tuples(st.just("stop"), st.none()),
)


def make_job() -> Record:
    request = build_training_request("job", "s3://b/code", "s3://b/out/")
    request["HyperParameters"]["_tuning_objective_metric"] = "a"
    return build_record(request, "arn:aws:sagemaker:us-east-1:123456789012:training-job/job", START)


def apply(job: Record, kind: str, what: Any, now: datetime) -> Record | None:
    if kind == "stage":
        return enter_stage(job, what, None, now)
    if kind == "metrics":
        return add_metrics(job, what, now)
    if kind == "finish":
        return finish(job, what, now)
    return begin_stop(job, now) if job["TrainingJobStatus"] == "InProgress" else None


@given(steps=st.lists(reports, max_size=12))
def test_no_sequence_of_reports_makes_an_impossible_job(steps: list[tuple[str, Any]]) -> None:
    """An ended job stays as it ended, stages follow without gaps, and the record always has AWS's shape."""
    job, now = make_job(), START
    ended: Record | None = None
    for kind, what in steps:
        now += timedelta(seconds=1)
        changed = apply(job, kind, what, now)
        assert ended is None or changed is None
        job = changed if changed is not None else job
        if job["TrainingJobStatus"] in ENDED:
            ended = job
    transitions = job["SecondaryStatusTransitions"]
    assert transitions[-1]["Status"] == job["SecondaryStatus"]
    for before, after in itertools.pairwise(transitions):
        assert before["EndTime"] == after["StartTime"]
        assert before["Status"] != after["Status"]
    assert ("TrainingEndTime" in job) == (job["TrainingJobStatus"] in ENDED)
    assert len(job.get("FailureReason", "")) <= 1024
    assert serialise(SHAPE, show(job) | count_time(job, now))


@given(points=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(-1, 1)), min_size=1))
def test_metrics_keep_their_last_value_and_the_objective_its_history(points: list[tuple[str, float]]) -> None:
    """FinalMetricDataList holds each metric once; every value of the objective is kept for the tuner."""
    job = make_job()
    for point in points:
        job = add_metrics(job, [point], START) or job
    assert {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]} == dict(points)
    assert [value for _, value in job["_objective"]] == [value for name, value in points if name == "a"]


def test_a_job_that_is_being_stopped_cannot_complete() -> None:
    """A program that ends well after a stop is Stopped. One that fails then is Failed."""
    for outcome, status in ((Outcome("Completed"), "Stopped"), (Outcome("Failed", reason="r"), "Failed")):
        job = finish(begin_stop(make_job(), START), outcome, START)
        assert job is not None
        assert job["TrainingJobStatus"] == status
