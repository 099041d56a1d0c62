"""Activate the cost-allocation tags without which AWS Budgets sees nothing of a stage.

A budget counts what carries a tag only once the tag is active. Only a management or standalone account can activate
one, and only some hours after the tag was first used: so a stage's first deployment cannot, and a later one can. Each
of the two requests costs a cent (https://aws.amazon.com/aws-cost-management/pricing/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infrastructure.account.context import describe_error

KEYS = ("whippet:app", "whippet:stage")
UNGUARDED = "AWS Budgets sees $0 of this stage, and mails nobody, until the cost-allocation tags {keys} are active"


def activate_tags(client: Any) -> list[str]:
    """Activate what can be activated, and return what to tell the operator; empty if all are active."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.list_cost_allocation_tags(TagKeys=list(KEYS), Type="UserDefined")
        known = {each["TagKey"]: each["Status"] for each in answer["CostAllocationTags"]}
        if waiting := [key for key in KEYS if known.get(key) == "Inactive"]:
            wanted = [{"TagKey": key, "Status": "Active"} for key in waiting]
            errors = client.update_cost_allocation_tags_status(CostAllocationTagsStatus=wanted).get("Errors", [])
            return explain_activation(waiting, [key for key in KEYS if key not in known], errors)
    except (BotoCoreError, ClientError) as error:
        return [explain_refusal(KEYS, describe_error(error))]
    unused = [key for key in KEYS if key not in known]
    return [explain_unused(unused)] if unused else []


def explain_activation(waiting: Sequence[str], unused: Sequence[str], errors: Sequence[dict[str, Any]]) -> list[str]:
    """Return what to tell of tags that were asked to be activated, and of those that AWS does not list yet."""
    refused = [each["TagKey"] for each in errors]
    done = [key for key in waiting if key not in refused]
    told = []
    if done:
        told.append(f"Activated the cost-allocation tags {', '.join(done)}: the budget counts from tomorrow on.")
    if errors:
        reasons = "; ".join(f"{each['TagKey']}: {each['Code']}: {each['Message']}" for each in errors)
        told.append(explain_refusal(refused, reasons))
    return [*told, explain_unused(unused)] if unused else told


def explain_unused(keys: Sequence[str]) -> str:
    """Explain what to do about tags that AWS has not listed yet: it does some hours after their first use."""
    return (
        f"! {UNGUARDED.format(keys=', '.join(keys))}. AWS lists them some hours after their first use: deploy again "
        f"tomorrow, or run then:\n    {write_command(keys)}"
    )


def explain_refusal(keys: Sequence[str], reason: str) -> str:
    """Explain who can activate tags that AWS refused to activate here."""
    return (
        f"! {UNGUARDED.format(keys=', '.join(keys))}, and they cannot be activated from here ({reason}). "
        f"A management or standalone account can; whoever has its billing must run, once:\n    {write_command(keys)}"
    )


def write_command(keys: Sequence[str]) -> str:
    """Return the command that activates tags."""
    entries = " ".join(f"TagKey={key},Status=Active" for key in keys)
    return f"aws ce update-cost-allocation-tags-status --cost-allocation-tags-status {entries}"
