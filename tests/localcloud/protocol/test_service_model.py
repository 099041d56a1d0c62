"""Requests are held to AWS's own service model, with AWS's texts."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.protocol.errors import SerializationException, ServiceError, UnknownOperation, ValidationException
from localcloud.protocol.service_model import find_operation, parse_json, parse_request, serialise
from tests.localcloud.sagemaker_support import build_training_request

CREATE = find_operation("sagemaker", "CreateTrainingJob")
NAME_PATTERN = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def refuse(operation: str, request: dict[str, Any]) -> str:
    with pytest.raises(ServiceError) as caught:
        parse_request(find_operation("sagemaker", operation), request)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "constraint"),
    [
        ("under_score", f"Member must satisfy regular expression pattern: {NAME_PATTERN}"),
        ("-first", f"Member must satisfy regular expression pattern: {NAME_PATTERN}"),
        ("ümlaut", f"Member must satisfy regular expression pattern: {NAME_PATTERN}"),
        ("line\n", f"Member must satisfy regular expression pattern: {NAME_PATTERN}"),
    ],
)
def test_a_name_must_match_its_pattern(name: str, constraint: str) -> None:
    """The text is AWS's: value, place in lower camel case, constraint."""
    assert refuse("DescribeTrainingJob", {"TrainingJobName": name}) == (
        f"1 validation error detected: Value '{name}' at 'trainingJobName' failed to satisfy constraint: {constraint}"
    )


def test_a_missing_member_is_null() -> None:
    """A required member that is not there, or is null, must not be null."""
    wanted = "1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: "
    assert refuse("DescribeTrainingJob", {}) == refuse("DescribeTrainingJob", {"TrainingJobName": None})
    assert refuse("DescribeTrainingJob", {}) == f"{wanted}Member must not be null"


def test_all_faults_are_told_at_once() -> None:
    """Enums, maxima and minima deep in lists are each named with their path, and counted."""
    request = build_training_request("job", "s3://b/c", "s3://b/out")
    request["ResourceConfig"]["InstanceType"] = "ml.huge"
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "a", "Regex": "x" * 501}]
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 0}
    text = refuse("CreateTrainingJob", request)
    assert text.startswith("3 validation errors detected: ")
    assert (
        "at 'resourceConfig.instanceType' failed to satisfy constraint: Member must satisfy enum value set: [" in text
    )
    assert "at 'algorithmSpecification.metricDefinitions.1.member.regex' failed to satisfy constraint: " in text
    assert "Member must have length less than or equal to 500" in text
    assert "Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: " in text
    assert "Member must have value greater than or equal to 1" in text


def test_maps_name_the_constraint_of_their_keys_and_values() -> None:
    """A hyperparameter's value that is too long is a fault of the map."""
    request = build_training_request("job", "s3://b/c", "s3://b/out") | {"HyperParameters": {"a": "x" * 2501}}
    text = refuse("CreateTrainingJob", request)
    assert "at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: [Member must" in text


def test_an_unknown_member_is_refused_by_name() -> None:
    """A misspelt member would otherwise be passed over in silence."""
    request = build_training_request("job", "s3://b/c", "s3://b/out")
    request["ResourceConfig"]["InstanceKount"] = 1
    assert "Unknown member 'InstanceKount' at 'resourceConfig'" in refuse("CreateTrainingJob", request)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"TrainingJobName": 5}, "NUMBER_VALUE cannot be converted to String at 'trainingJobName'"),
        ({"TrainingJobName": ["a"]}, "START_ARRAY cannot be converted to String at 'trainingJobName'"),
    ],
)
def test_a_wrong_type_is_a_serialization_exception(request_: dict[str, Any], text: str) -> None:
    """Types are checked before values."""
    with pytest.raises(SerializationException, match=text):
        parse_request(find_operation("sagemaker", "DescribeTrainingJob"), request_)


def test_patterns_of_unicode_classes_are_passed_over() -> None:
    """Python's `re` has no \\p{L}: tags may hold what they like."""
    request = build_training_request("job", "s3://b/c", "s3://b/out") | {"Tags": [{"Key": "ключ", "Value": "§"}]}
    assert parse_request(CREATE, request)["Tags"] == [{"Key": "ключ", "Value": "§"}]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """With AWS's code for it."""
    with pytest.raises(SerializationException):
        parse_json(body)


def test_unknown_operations_have_their_own_code() -> None:
    """AWS has never heard of it."""
    with pytest.raises(UnknownOperation):
        find_operation("sagemaker", "CreateMiracle")


def test_times_go_out_as_epoch_seconds_and_none_not_at_all() -> None:
    """botocore reads numbers as timestamps; an absent member is left out."""
    shape = find_operation("sagemaker", "DescribeTrainingJob").output_shape
    moment = datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert serialise(shape, {"CreationTime": moment, "FailureReason": None}) == {"CreationTime": moment.timestamp()}


def test_an_answer_may_not_hold_what_aws_never_sends() -> None:
    """A slip of ours is an error, not a member that only exists locally."""
    with pytest.raises(ValueError, match="Colour"):
        serialise(find_operation("sagemaker", "DescribeTrainingJob").output_shape, {"Colour": "blue"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(path=st.lists(st.integers(0, 20), max_size=4), value=json_values)
def test_any_json_in_any_place_is_served_or_refused_with_a_service_error(path: list[int], value: Any) -> None:
    """Whatever stands anywhere in a request, the door never breaks."""
    request = build_training_request("job", "s3://b/c", "s3://b/out")
    place: Any = request
    for step in path[:-1]:
        key = sorted(place)[step % len(place)] if isinstance(place, dict) and place else None
        place = place[key] if key is not None and isinstance(place[key], dict) else place
    place[sorted(place)[path[-1] % len(place)] if path and place else "New"] = value
    with contextlib.suppress(ValidationException, SerializationException):
        assert parse_request(CREATE, request)["TrainingJobName"]
