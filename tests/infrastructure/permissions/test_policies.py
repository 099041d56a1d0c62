"""Test IAM's decision by its user guide: nothing is allowed unless stated, and a denial outweighs everything."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.iam.policies import Need, PolicyError, find_refusal, is_allowed, matches


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.parametrize(
    ("pattern", "text", "does"),
    [
        ("s3:Get*", "s3:GetObject", True),
        ("s3:Get*", "s3:PutObject", False),
        ("*", "anything: at/all", True),
        ("arn:aws:s3:::b/runs/*", "arn:aws:s3:::b/runs/a/b.json", True),
        ("arn:aws:s3:::b/runs/*", "arn:aws:s3:::b/runs", False),
        ("secret-??????", "secret-Ab12Cd", True),
        ("secret-??????", "secret-Ab12C", False),
        ("a.c", "abc", False),
        ("a[bc]", "ab", False),
    ],
)
def test_wildcards(pattern: str, text: str, does: bool) -> None:
    """A star matches any text, a question mark one character, and nothing else is special."""
    assert matches(pattern, text) is does


def test_nothing_said_is_nothing_allowed() -> None:
    """The reason names the action, as AWS's does."""
    refusal = find_refusal([policy(allow("s3:GetObject"))], Need("s3:PutObject", "arn:aws:s3:::b/k"))
    assert refusal == "because no identity-based policy allows the s3:PutObject action"


def test_a_denial_outweighs_every_permission() -> None:
    """This holds across policies too."""
    denial = {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::b/secret*"}
    documents = [policy(allow("s3:*")), policy(denial)]
    assert is_allowed(documents, Need("s3:GetObject", "arn:aws:s3:::b/open"))
    assert "explicit deny" in str(find_refusal(documents, Need("s3:GetObject", "arn:aws:s3:::b/secret")))


def test_actions_ignore_case_and_resources_do_not() -> None:
    """This is IAM's rule."""
    document = policy(allow("S3:getobject", "arn:aws:s3:::b/Key"))
    assert is_allowed([document], Need("s3:GetObject", "arn:aws:s3:::b/Key"))
    assert not is_allowed([document], Need("s3:GetObject", "arn:aws:s3:::b/key"))


def test_one_statement_may_stand_without_its_list() -> None:
    """Both forms are valid policies."""
    assert is_allowed([{"Statement": allow(["a:B", "a:C"])}], Need("a:C"))


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"iam:PassedToService": "x"}}, {"iam:PassedToService": "x"}, True),
        ({"StringEquals": {"iam:PassedToService": "x"}}, {"iam:passedtoservice": "x"}, True),
        ({"StringEquals": {"iam:PassedToService": ["y", "x"]}}, {"iam:PassedToService": "x"}, True),
        ({"StringEquals": {"iam:PassedToService": "x"}}, {"iam:PassedToService": "X"}, False),
        ({"StringEquals": {"iam:PassedToService": "x"}}, {}, False),
        ({"StringEqualsIfExists": {"iam:PassedToService": "x"}}, {}, True),
        ({"StringLike": {"s3:prefix": "runs/*"}}, {"s3:prefix": "runs/a"}, True),
        ({"StringNotEquals": {"s3:prefix": "a"}}, {"s3:prefix": "a"}, False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, {}, True),
        ({"Null": {"s3:prefix": "true"}}, {}, True),
        ({"Null": {"s3:prefix": "false"}}, {}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:SecureTransport": "true"}, True),
        ({"StringLike": {"a": "x"}, "StringEquals": {"b": "y"}}, {"a": "x", "b": "z"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, str], holds: bool) -> None:
    """All must hold; one matching value is enough; a missing key fails, except for a negated operator."""
    assert is_allowed([policy(allow("a:B", Condition=condition))], Need("a:B", "*", context)) is holds


@pytest.mark.parametrize(
    "statement",
    [
        allow("a:B", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        allow("a:B", "arn:aws:s3:::b/${aws:username}"),
        {"Effect": "Allow", "NotAction": "a:C", "Resource": "*"},
    ],
)
def test_what_is_not_understood_is_an_error(statement: dict[str, Any]) -> None:
    """Ignoring it could allow what AWS refuses."""
    with pytest.raises(PolicyError):
        is_allowed([policy(statement)], Need("a:B", "arn:aws:s3:::b/k"))
