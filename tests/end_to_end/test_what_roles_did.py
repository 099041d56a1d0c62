"""Test what the roles called in all earlier tests, and a run whose function lacks a permission."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from localcloud.iam.call_log import Recorded, read_calls
from localcloud.iam.policies import Document
from tests.end_to_end.conftest import upload_small_dataset
from tests.infrastructure.permissions.proofs import EVENTS, find_refusals, list_actions, list_rows, strip
from tests.infrastructure.permissions.stack import EXECUTION
from tests.support.local_cloud import LocalCloud, wait_until

REGION = "us-east-1"
BY_WHOEVER_LOOKS_FIRST = {"events", "sns", "application-autoscaling"}
OWNERS = {"whippet-local-api": "app", "whippet-local-jobs": EXECUTION}


def read_policies(cloud: LocalCloud) -> dict[str, dict[str, Document]]:
    """Return the policies of the stack's roles by name, as in the template."""
    iam = cloud.client("iam")
    found: dict[str, dict[str, Document]] = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        names = iam.list_role_policies(RoleName=name)["PolicyNames"]
        found[name] = {each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names}
    return found


def read_recorded(cloud: LocalCloud) -> list[Recorded]:
    return list(read_calls([cloud.home / "calls.1.jsonl", cloud.home / "calls.jsonl"]))


@pytest.fixture(scope="module")
def recorded(cloud: LocalCloud, deployed_run: Mapping[str, Any]) -> list[Recorded]:
    """Return the calls of every role: in a deployed run, in a run stopped by its route, and in everything else done in
    this cloud."""
    upload_small_dataset(cloud, "watched", epochs=50)
    run = cloud.wait_for_status("watched", "tuning")
    cloud.api.post(f"/runs/{run['run_id']}/stop").raise_for_status()
    cloud.wait_for_status("watched", "stopped")
    calls = read_recorded(cloud)
    assert {call.role for call in calls} >= {f"whippet-local-{name}-{REGION}" for name in ("jobs", "api", *EVENTS)}
    return calls


def test_every_call_is_allowed_by_the_callers_own_policy(cloud: LocalCloud, recorded: list[Recorded]) -> None:
    """No call of functions, jobs or endpoints was refused, and none would be."""
    policies = read_policies(cloud)
    assert [call for call in recorded if not call.allowed] == []
    refused = {
        role: find_refusals(policies[role].values(), [each for each in recorded if each.role == role])
        for role in {call.role for call in recorded}
    }
    assert not any(refused.values()), refused


def test_no_policy_allows_a_service_that_its_role_has_no_use_for(cloud: LocalCloud, recorded: list[Recorded]) -> None:
    """Each service in a role's policy was called by that role here, or is in the table of what is not a call.

    Left to tests/permissions, which proves each action of each function: the sweep, which does only what no event did,
    and notices and scaling, which fall to whichever function looks first.
    """
    for role, documents in read_policies(cloud).items():
        if name_owner(role) == "sweep":
            continue
        owner = name_owner(role)
        used = {need.service for call in recorded if call.role == role for need in call.needs}
        explained = {need.service for need in explain(cloud, role, owner)}
        allowed = {action.partition(":")[0] for action in list_actions(documents.values())}
        assert allowed - used - explained - BY_WHOEVER_LOOKS_FIRST == set(), role


def test_jobs_and_endpoints_use_all_that_their_role_may(cloud: LocalCloud, recorded: list[Recorded]) -> None:
    """Each action of the execution role was used in a run, or is in the table."""
    role = f"whippet-local-jobs-{REGION}"
    used = {need.action for call in recorded if call.role == role for need in call.needs}
    explained = {need.action for need in explain(cloud, role, EXECUTION)}
    assert list_actions(read_policies(cloud)[role].values()) - used - explained == set()


def name_owner(role: str) -> str:
    plain = role.removesuffix(f"-{REGION}")
    return OWNERS.get(plain, plain.removeprefix("whippet-local-"))


def explain(cloud: LocalCloud, role: str, owner: str) -> list[Any]:
    execution = f"arn:aws:iam::123456789012:role/whippet-local-jobs-{REGION}"
    return [need for _, need in list_rows(owner, role.removesuffix(f"-{REGION}"), cloud.bucket, execution)]


@contextmanager
def without(cloud: LocalCloud, action: str) -> Iterator[None]:
    """Remove one action from all roles, until the end of the test."""
    iam, policies = cloud.client("iam"), read_policies(cloud)
    for role, documents in policies.items():
        for name, document in documents.items():
            (stripped,) = strip([document], action)
            kept = [each for each in stripped["Statement"] if each["Action"]]
            put_policy(iam, role, name, {**stripped, "Statement": kept})
    try:
        yield
    finally:
        for role, documents in policies.items():
            for name, document in documents.items():
                put_policy(iam, role, name, document)


def put_policy(iam: Any, role: str, name: str, document: Document) -> None:
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


@pytest.mark.parametrize(
    "action", ["sagemaker:CreateHyperParameterTuningJob", "sagemaker:AddTags", "iam:PassRole", "s3:GetObjectVersion"]
)
def test_a_run_whose_function_lacks_a_permission_says_which(cloud: LocalCloud, action: str) -> None:
    """The run does not fail at once, as IAM may be slow to tell: its reason names the action until it may go on."""
    name = action.replace(":", "-").lower()
    with without(cloud, action):
        upload_small_dataset(cloud, name)
        reason = wait_until(lambda: read_reason(cloud, name, action), within=240, what=f"{name} says what it lacks")
    assert f"is not authorized to perform: {action} on resource: " in reason
    assert f"because no identity-based policy allows the {action} action" in reason
    run = cloud.list_runs(name)[0]
    assert run["status"] == "checking"
    cloud.api.post(f"/runs/{run['run_id']}/stop")


def read_reason(cloud: LocalCloud, name: str, action: str) -> str | None:
    """Return the reason of a dataset's run, once it names an action."""
    runs = cloud.list_runs(name)
    reason = cloud.api.get(f"/runs/{runs[0]['run_id']}").json()["reason"] if runs else None
    return str(reason) if reason and action in reason else None
