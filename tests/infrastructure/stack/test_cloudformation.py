"""Test stacks that are stuck, changing or failing, which the local CloudFormation, always at rest, cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infrastructure.errors import CannotDeploy
from infrastructure.stack.cloudformation import StackRequest, Stacks
from infrastructure.stack.failures import advise

REQUEST = StackRequest(
    "whippet-dev", "https://b.s3.us-east-1.amazonaws.com/t.json", {"A": "1"}, {"whippet:app": "whippet"}
)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class CloudFormation:
    """A fake stack that goes through these statuses, one at each look; None means no stack."""

    def __init__(self, *statuses: str | None, events: list[dict[str, Any]] | None = None, refusal: str = "") -> None:
        self.statuses, self.events, self.refusal = list(statuses), events or [], refusal
        self.done: list[str] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "Stack does not exist"}}, "DescribeStacks"
            )
        return {"Stacks": [{"StackStatus": status, "StackId": f"arn:{StackName}"}]}

    def create_change_set(self, **told: Any) -> dict[str, Any]:
        self.done.append(told["ChangeSetType"])
        return {"Id": "change-set"}

    def describe_change_set(self, **_told: Any) -> dict[str, Any]:
        return {"Status": "FAILED", "StatusReason": self.refusal} if self.refusal else {"Status": "CREATE_COMPLETE"}

    def execute_change_set(self, **_told: Any) -> None:
        self.done.append("execute")

    def delete_change_set(self, **_told: Any) -> None:
        self.done.append("forget")

    def delete_stack(self, **_told: Any) -> None:
        self.done.append("delete")

    def get_paginator(self, _operation: str) -> CloudFormation:
        return self

    def paginate(self, **_told: Any) -> Iterator[dict[str, Any]]:
        yield {"StackEvents": self.events}


def describe(status: str, name: str, reason: str = "", seconds: int = 0) -> dict[str, Any]:
    """Build an event in CloudFormation's form."""
    return {
        "EventId": f"{name}-{status}",
        "Timestamp": NOW.replace(second=seconds),
        "ResourceStatus": status,
        "LogicalResourceId": name,
        "ResourceStatusReason": reason,
    }


def follow(client: CloudFormation) -> tuple[Stacks, list[str]]:
    told: list[str] = []
    return Stacks(client, told.append, sleep=lambda _seconds: None, clock=NOW.timestamp), told


def test_a_stack_that_is_changing_is_waited_for() -> None:
    """Another deployment, or this one after Ctrl-C, finishes first; then the stack is changed."""
    client = CloudFormation("UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    stacks, told = follow(client)
    assert stacks.apply(REQUEST)
    assert "is being changed at this moment (UPDATE_IN_PROGRESS)" in told[0]
    assert client.done == ["UPDATE", "execute"]


def test_a_stack_that_is_changing_is_removed_afterwards() -> None:
    """CloudFormation refuses to delete a stack during an update; one that is already being deleted is gone."""
    client = CloudFormation("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")
    assert follow(client)[0].remove("whippet-dev")
    assert client.done == ["delete"]
    assert not follow(CloudFormation("DELETE_IN_PROGRESS", None))[0].remove("whippet-dev")


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"])
def test_a_stack_that_was_never_whole_is_removed_first(status: str) -> None:
    """CloudFormation refuses to change such a stack."""
    client = CloudFormation(status, status, "DELETE_COMPLETE", "CREATE_COMPLETE")
    stacks, told = follow(client)
    assert stacks.apply(REQUEST)
    assert told == [f"The stack whippet-dev was never made whole ({status}): it is removed first."]
    assert client.done == ["delete", "CREATE", "execute"]


@pytest.mark.parametrize(
    ("status", "step"), [("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"), ("DELETE_FAILED", "make destroy")]
)
def test_a_stuck_stack_is_not_touched(status: str, step: str) -> None:
    """The operator is told the only way out."""
    client = CloudFormation(status)
    with pytest.raises(CannotDeploy, match=step):
        follow(client)[0].apply(REQUEST)
    assert client.done == []


def test_nothing_to_change_is_a_success() -> None:
    """CloudFormation calls it a failed change set, which is removed again."""
    client = CloudFormation("UPDATE_COMPLETE", refusal="The submitted information didn't contain changes. Submit …")
    assert not follow(client)[0].apply(REQUEST)
    assert client.done == ["UPDATE", "forget"]


def test_a_refused_change_set_is_told_with_its_reason() -> None:
    """It is refused before anything is changed."""
    client = CloudFormation("UPDATE_COMPLETE", refusal="Parameter 'A' must be one of AllowedValues")
    with pytest.raises(CannotDeploy, match=r"must be one of AllowedValues\nCorrect the parameter in PARAMETERS"):
        follow(client)[0].apply(REQUEST)


def test_a_failed_update_names_the_first_causes() -> None:
    """Cancelled resources and earlier deployments are not named."""
    events = [
        describe("UPDATE_ROLLBACK_COMPLETE", "whippet-dev"),
        describe("UPDATE_FAILED", "Sweep", "Resource update cancelled", 3),
        describe("CREATE_FAILED", "Alarm", "User is not authorized to perform: cloudwatch:PutMetricAlarm", 2),
        describe("CREATE_FAILED", "Older", "long ago") | {"Timestamp": NOW.replace(hour=1), "EventId": "old"},
    ]
    client = CloudFormation("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", events=events)
    with pytest.raises(CannotDeploy) as caught:
        follow(client)[0].apply(REQUEST)
    message = str(caught.value)
    assert message.startswith("The stack ended as UPDATE_ROLLBACK_COMPLETE.")
    assert "CREATE_FAILED                Alarm  (User is not authorized" in message
    assert "Whoever deploys lacks this permission" in message
    assert "Sweep" not in message
    assert "Older" not in message


def test_a_status_of_before_the_change_is_not_its_end() -> None:
    """CloudFormation may return the old status for a moment after a change was requested."""
    client = CloudFormation("UPDATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")
    with pytest.raises(CannotDeploy, match="ended as UPDATE_ROLLBACK_COMPLETE"):
        follow(client)[0].apply(REQUEST)


def test_a_stack_that_cannot_be_deleted_is_told() -> None:
    """The message quotes its events."""
    events = [describe("DELETE_FAILED", "Role", "Cannot delete entity, must detach all policies first", 1)]
    client = CloudFormation("CREATE_COMPLETE", "DELETE_FAILED", events=events)
    with pytest.raises(CannotDeploy, match=r"ended as DELETE_FAILED\.\n.*Role  \(Cannot delete entity"):
        follow(client)[0].remove("whippet-dev")


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("whippet-dev-x already exists in stack arn:…", "make destroy"),
        ("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution", "=0"),
        ("CloudWatch Logs role ARN must be set in account settings to enable logging", "CreateApiLogsRole=true"),
        ("API: s3:CreateBucket Access Denied", "permission"),
        ("The maximum number of addresses has been reached. (Service Limit: LimitExceeded)", "Service Quotas"),
        ("Invalid parameter: Email address", "AlarmEmail"),
        ("the moon is in the way", "docs/aws.md"),
    ],
)
def test_every_reason_has_a_next_step(reason: str, advice: str) -> None:
    """Known reasons have their own advice; unknown ones lead to the documentation."""
    assert advice in advise(reason)
