"""Provide the parts of proofs about policies: refusals, actions, a policy without one action, the table."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from localcloud.iam.call_log import Recorded
from localcloud.iam.policies import Document, Need, as_list, find_refusal, list_statements
from tests.infrastructure.permissions.stack import KEY

INFRASTRUCTURE = Path(__file__).parents[3] / "infrastructure"
TABLE: dict[str, Any] = json.loads((INFRASTRUCTURE / "template" / "permissions.json").read_text())
EVENTS = ("on_dataset_uploaded", "on_tuning_job_changed", "on_training_job_changed", "on_endpoint_changed", "sweep")
FUNCTIONS = ("app", *EVENTS)
GROUPS = {"functions": FUNCTIONS, "event_functions": EVENTS, "api_handler": ("app",)}


def find_refusals(policies: Iterable[Document], calls: Iterable[Recorded]) -> list[str]:
    """Return everything that the calls need and the policies refuse."""
    documents = list(policies)
    needs = {(call.operation, need) for call in calls for need in call.needs}
    return sorted(
        f"{operation}: {need.action} on {need.resource}: {reason}"
        for operation, need in needs
        if (reason := find_refusal(documents, need))
    )


def list_actions(policies: Iterable[Document]) -> set[str]:
    return {action for document in policies for each in list_statements(document) for action in as_list(each["Action"])}


def strip(policies: Iterable[Document], action: str) -> list[Document]:
    """Return the policies without one action."""
    stripped: list[Any] = copy.deepcopy(list(policies))
    for document in stripped:
        for statement in document["Statement"]:
            statement["Action"] = [each for each in as_list(statement["Action"]) if each != action]
    return stripped


def list_rows(owner: str, function: str, bucket: str, execution_role: str) -> Iterator[tuple[str, Need]]:
    """Yield (reason, need) for each of a role's actions in the table; `function` is its function's name."""
    values = {
        "bucket": bucket,
        "prefix": "whippet-local",
        "place": "us-east-1:123456789012",
        "execution_role": execution_role,
        "function": function,
        "key": KEY,
    }
    for row in TABLE["not_calls"]:
        if owner in {each for name in row["roles"] for each in GROUPS.get(name, (name,))}:
            resource = row["resource"].format(**values)
            yield from ((row["reason"], Need(each, resource, row.get("context", {}))) for each in row["actions"])
