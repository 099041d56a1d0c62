"""Prove that every role may do what it does, and nothing else, from what the functions call.

`histories` finds what they call by driving each handler through every point at which its event may come. What no call
shows is in infrastructure/template/permissions.json, with its reason.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from localcloud.iam.call_log import Recorded
from localcloud.iam.policies import Need, as_list, find_refusal, is_allowed, list_statements
from tests.infrastructure.permissions.histories import tell_histories
from tests.infrastructure.permissions.proofs import (
    FUNCTIONS,
    GROUPS,
    TABLE,
    find_refusals,
    list_actions,
    list_rows,
    strip,
)
from tests.infrastructure.permissions.stack import EVERYTHING, EXECUTION, BuiltStack, Role, build_stack
from tests.infrastructure.permissions.test_calls import load_aws_actions

LARGEST = 10_240  # characters that the inline policies of one role may have together
Calls = Callable[[str], frozenset[Recorded]]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> BuiltStack:
    return build_stack(EVERYTHING, tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="session")
def calls(stack: BuiltStack) -> Calls:
    """Return what each function calls, computed once for all tests."""
    return cache(lambda function: frozenset(tell_histories(function, stack.settings)))


def explain(owner: str, stack: BuiltStack) -> list[tuple[str, Need]]:
    """Return the table's rows for a role."""
    name, settings = stack.roles[owner].name, stack.settings
    return list(list_rows(owner, name.removesuffix("-us-east-1"), settings.bucket, settings.execution_role_arn))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_call_is_allowed_by_its_own_role(function: str, stack: BuiltStack, calls: Calls) -> None:
    """Its function is refused nothing, whatever happens to a run."""
    assert find_refusals(stack.roles[function].policies, calls(function)) == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_action_is_used_or_explained(function: str, stack: BuiltStack, calls: Calls) -> None:
    """A permission that no history needs and no reason explains is one too many."""
    used = {need.action for call in calls(function) for need in call.needs}
    explained = {need.action for _, need in explain(function, stack)}
    assert list_actions(stack.roles[function].policies) - used - explained == set()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_statement_is_needed(function: str, stack: BuiltStack, calls: Calls) -> None:
    """Each resource of each statement is needed by a call or a reason, so no prefix is open needlessly."""
    needs = {need for call in calls(function) for need in call.needs}
    needs |= {need for _, need in explain(function, stack)}
    idle = [
        (statement.get("Sid"), resource)
        for document in stack.roles[function].policies
        for statement in list_statements(document)
        for resource in as_list(statement["Resource"])
        if not any(is_allowed([{"Statement": {**statement, "Resource": resource}}], need) for need in needs)
    ]
    assert idle == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_stripped_of_an_action_is_refused_by_its_name(
    function: str, stack: BuiltStack, calls: Calls
) -> None:
    """Without any one of its actions the calls that need it are refused, and the reason names the action."""
    policies, needing = stack.roles[function].policies, defaultdict[str, set[Recorded]](set)
    for call in calls(function):
        for need in call.needs:
            needing[need.action].add(call)
    for action, made in needing.items():
        refusals = find_refusals(strip(policies, action), made)
        assert refusals, action
        assert all(f"no identity-based policy allows the {action} action" in each for each in refusals)


@pytest.mark.parametrize("owner", [*FUNCTIONS, EXECUTION])
def test_what_is_no_call_is_allowed_and_missed_where_it_is_not(owner: str, stack: BuiltStack) -> None:
    """This holds for each row of the table and each of its roles."""
    policies, rows = stack.roles[owner].policies, explain(owner, stack)
    assert rows
    for _, need in rows:
        assert find_refusal(policies, need) is None, need
        assert need.action in str(find_refusal(strip(policies, need.action), need))


def test_every_row_is_of_roles_that_are_there_and_of_actions_that_aws_has(stack: BuiltStack) -> None:
    """A typing error would explain nothing and go unnoticed."""
    for row in TABLE["not_calls"]:
        assert {each for name in row["roles"] for each in GROUPS.get(name, (name,))} <= stack.roles.keys()
        assert len(row["reason"]) > 30
        assert len(row["documentation"]) > 20
    for owner, role in stack.roles.items():
        for action in list_actions(role.policies):
            service, _, name = action.partition(":")
            assert name.lower() in load_aws_actions()[service]["Actions"], (owner, action)


@pytest.mark.parametrize("owner", [*FUNCTIONS, EXECUTION])
def test_wildcards_have_their_reason(owner: str, stack: BuiltStack) -> None:
    """No action is a pattern, and a statement covers all resources only with a reason."""
    excused = {action for row in TABLE["any_resource"] for action in row["actions"] if len(row["reason"]) > 30}
    for document in stack.roles[owner].policies:
        for statement in list_statements(document):
            actions = set(as_list(statement["Action"]))
            assert not [action for action in actions if "*" in action]
            if "*" in as_list(statement["Resource"]):
                assert actions <= excused, statement


@pytest.mark.parametrize("owner", [*FUNCTIONS, EXECUTION])
def test_policies_fit_into_a_role(owner: str, stack: BuiltStack) -> None:
    """IAM counts every character except white space."""
    assert sum(len(json.dumps(each, separators=(",", ":"))) for each in stack.roles[owner].policies) <= LARGEST


@pytest.mark.parametrize("owner", [*FUNCTIONS, EXECUTION])
def test_no_two_statements_have_one_name(owner: str, stack: BuiltStack) -> None:
    """IAM refuses a policy with a repeated Sid."""
    for document in stack.roles[owner].policies:
        names = [statement["Sid"] for statement in list_statements(document)]
        assert sorted(names) == sorted(set(names))


def is_allowed_to(role: Role, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    return is_allowed(role.policies, Need(action, resource, context or {}))


@pytest.mark.parametrize("owner", [*FUNCTIONS, EXECUTION])
@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "arn:aws:s3:::whippet-dev-123456789012-us-east-1/runs/a/run.json"),
        ("s3:DeleteObject", "arn:aws:s3:::whippet-local-123456789012-us-east-1/code/sourcedir.tar.gz"),
        ("s3:PutObject", "arn:aws:s3:::whippet-local-123456789012-us-east-1/code/sourcedir.tar.gz"),
        ("s3:DeleteBucket", "arn:aws:s3:::whippet-local-123456789012-us-east-1"),
        ("s3:PutBucketPolicy", "arn:aws:s3:::whippet-local-123456789012-us-east-1"),
        ("sagemaker:DescribeTrainingJob", "arn:aws:sagemaker:us-east-1:123456789012:training-job/whippet-dev-dogs-1"),
        ("sagemaker:DeleteEndpoint", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/somebody-elses"),
        ("sagemaker:InvokeEndpoint", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/whippet-dev-dogs-1"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:123456789012:secret:other-000000"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/administrator"),
        ("sts:AssumeRole", "arn:aws:iam::123456789012:role/administrator"),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/another"),
        ("logs:PutLogEvents", "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/other:log-stream:x"),
    ],
)
def test_what_is_not_ours_is_out_of_reach(owner: str, action: str, resource: str, stack: BuiltStack) -> None:
    """This covers other stages, other people's resources, and what no role of ours has to change."""
    assert not is_allowed_to(stack.roles[owner], action, resource)


@pytest.mark.parametrize("owner", FUNCTIONS)
def test_the_role_is_handed_to_sagemaker_alone(owner: str, stack: BuiltStack) -> None:
    """Passed to another service, it would grant more than a function may do."""
    role, passed = stack.roles[owner], stack.settings.execution_role_arn
    assert is_allowed_to(role, "iam:PassRole", passed, {"iam:PassedToService": "sagemaker.amazonaws.com"})
    assert not is_allowed_to(role, "iam:PassRole", passed, {"iam:PassedToService": "lambda.amazonaws.com"})
    assert not is_allowed_to(role, "iam:PassRole", passed)


def test_no_key_and_no_vpc_no_permission(tmp_path: Path) -> None:
    """Permissions that depend on a setting are absent without it."""
    for role in build_stack({}, tmp_path).roles.values():
        assert not [each for each in list_actions(role.policies) if each.startswith(("kms:", "ec2:"))]
