"""Decide on one action as IAM does, by identity policies with wildcards, conditions and denials.

Resource policies, boundaries and session policies are ignored. A condition operator or a policy variable that is not
known here raises PolicyError: what is not understood must not be skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Document = Mapping[str, Any]
Statement = Mapping[str, Any]


class PolicyError(ValueError):
    """A policy contains something that this evaluator does not understand."""


@dataclass(frozen=True)
class Need:
    """A permission that a call needs: an action on a resource ("*" where it has none), with its context's values."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def service(self) -> str:
        return self.action.partition(":")[0]


def is_allowed(documents: Iterable[Document], need: Need) -> bool:
    """Return whether some statement allows it and none denies it."""
    return find_refusal(documents, need) is None


def find_refusal(documents: Iterable[Document], need: Need) -> str | None:
    """Return why it is refused, in IAM's words, or None where it is allowed."""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in list_statements(document)
        if applies(statement, need)
    }
    if "Deny" in effects:
        return "with an explicit deny in an identity-based policy"
    return None if "Allow" in effects else f"because no identity-based policy allows the {need.action} action"


def list_statements(document: Document) -> list[Statement]:
    """List a policy's statements; a single one may appear without a list."""
    return as_list(document["Statement"])


def applies(statement: Statement, need: Need) -> bool:
    """Return whether a statement covers the action on the resource with the context's values."""
    for word in ("NotAction", "NotResource", "Principal", "NotPrincipal"):
        if word in statement:
            raise PolicyError(f"{word} is not known here; name what is meant.")
    return (
        any(matches(pattern.lower(), need.action.lower()) for pattern in as_list(statement["Action"]))
        and any(matches(pattern, need.resource) for pattern in as_list(statement["Resource"]))
        and all(
            holds(operator, key, as_list(wanted), need.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def matches(pattern: str, text: str) -> bool:
    """Match with IAM's wildcards: `*` for any characters, `?` for one. Raises PolicyError for a policy variable."""
    if "${" in pattern:
        raise PolicyError(f"The policy variable in {pattern!r} is not known here.")
    return bool(_compile(pattern).fullmatch(text))


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    """Return whether one line of a Condition holds. A key that the request lacks fails it, unless negated."""
    base = operator.removesuffix("IfExists")
    if base not in OPERATORS:
        raise PolicyError(f"The condition operator {operator} is not known here; it knows {', '.join(OPERATORS)}.")
    values = {name.lower(): value for name, value in context.items()}
    given = values.get(key.lower())
    if base == "Null":
        return (str(wanted[0]).lower() == "true") == (given is None)
    negated = "Not" in base
    if given is None:
        return negated or operator != base
    return negated != any(OPERATORS[base](str(each), given) for each in wanted)


OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringNotEquals": lambda wanted, given: wanted == given,
    "StringLike": matches,
    "StringNotLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
    "ArnNotEquals": matches,
    "ArnNotLike": matches,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
    "Null": lambda wanted, given: wanted == given,
}
