"""Test the budget's tags: they are activated if possible, and otherwise the command that does it is printed."""

from __future__ import annotations

import shlex
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import EndpointConnectionError

from infrastructure.account.cost_tags import KEYS, activate_tags, write_command
from tests.support.refusals import refuse

APP, STAGE = KEYS


class Billing:
    """A fake Cost Explorer that lists some tags and may refuse to activate them."""

    def __init__(self, tags: dict[str, str], errors: tuple[str, ...] = (), refusal: Exception | None = None) -> None:
        self.tags, self.errors, self.refusal = tags, errors, refusal
        self.calls: list[str] = []

    def list_cost_allocation_tags(self, TagKeys: list[str], Type: str) -> dict[str, Any]:
        self.calls.append("list")
        if self.refusal:
            raise self.refusal
        found = [{"TagKey": key, "Type": Type, "Status": self.tags[key]} for key in TagKeys if key in self.tags]
        return {"CostAllocationTags": found}

    def update_cost_allocation_tags_status(self, CostAllocationTagsStatus: list[dict[str, str]]) -> dict[str, Any]:
        self.calls.append("update")
        refused = [each["TagKey"] for each in CostAllocationTagsStatus if each["TagKey"] in self.errors]
        self.tags |= {each["TagKey"]: each["Status"] for each in CostAllocationTagsStatus}
        return {"Errors": [{"TagKey": key, "Code": "Nope", "Message": "not now"} for key in refused]}


def test_active_tags_are_left_alone_in_silence() -> None:
    """A deployment makes one request, which costs a cent, and prints nothing."""
    billing = Billing(dict.fromkeys(KEYS, "Active"))
    assert activate_tags(billing) == []
    assert billing.calls == ["list"]


def test_a_first_deployment_says_what_is_not_guarded_and_the_command() -> None:
    """AWS lists tags some hours after their first use, and cannot activate them before."""
    billing = Billing({})
    [told] = activate_tags(billing)
    assert billing.calls == ["list"]
    assert told.startswith(
        f"! AWS Budgets sees $0 of this stage, and mails nobody, until the cost-allocation tags {APP}"
    )
    assert "deploy again tomorrow" in told
    assert told.endswith(write_command(KEYS))


def test_a_later_deployment_activates_them() -> None:
    """A later deployment activates both tags and says so; the one after it has nothing to say."""
    billing = Billing(dict.fromkeys(KEYS, "Inactive"))
    assert activate_tags(billing) == [
        f"Activated the cost-allocation tags {APP}, {STAGE}: the budget counts from tomorrow on."
    ]
    assert activate_tags(billing) == []


def test_what_is_activated_what_is_refused_and_what_is_not_listed_are_told_apart() -> None:
    """Each case is reported with its own way out."""
    done = activate_tags(Billing({APP: "Inactive"}))
    assert done[0].startswith("Activated the")
    assert done[1].endswith(write_command([STAGE]))
    [refused] = activate_tags(Billing({APP: "Active", STAGE: "Inactive"}, errors=(STAGE,)))
    assert f"{STAGE}: Nope: not now" in refused
    assert refused.endswith(write_command([STAGE]))


@pytest.mark.parametrize(
    "refusal",
    [
        refuse("Linked account doesn't have access to cost allocation tags.", "ValidationException"),
        refuse("User is not authorized to perform ce:ListCostAllocationTags", "AccessDeniedException"),
        EndpointConnectionError(endpoint_url="https://ce.us-east-1.amazonaws.com"),
    ],
)
def test_an_account_that_cannot_is_told_who_can(refusal: Exception) -> None:
    """A member account, a missing permission or a missing network does not fail the deployment."""
    [told] = activate_tags(Billing({}, refusal=refusal))
    assert "cannot be activated from here" in told
    assert "A management or standalone account can" in told
    assert told.endswith(write_command(KEYS))


def test_the_command_is_one_that_the_aws_cli_takes() -> None:
    """The command's service, operation and members are those of AWS's own model."""
    words = shlex.split(write_command(KEYS))
    assert words[:4] == ["aws", "ce", "update-cost-allocation-tags-status", "--cost-allocation-tags-status"]
    model = botocore.session.get_session().get_service_model("ce").operation_model("UpdateCostAllocationTagsStatus")
    entry = model.input_shape.members["CostAllocationTagsStatus"].member.members
    given = [dict(pair.split("=") for pair in word.split(",")) for word in words[4:]]
    assert [set(each) for each in given] == [set(entry)] * 2
    assert {each["Status"] for each in given} <= set(entry["Status"].enum)
