"""Executes a change set as CloudFormation does: an event for each resource, what fails rolled back, the stack's
template, parameters and outputs those of the change set that it executed last. moto's own does none of these.
"""

from __future__ import annotations

import logging
from typing import Any

from moto.cloudformation import models as moto_stacks
from moto.cloudformation import parsing as moto_parsing

from localcloud.stacks.intrinsics import Properties

log = logging.getLogger(__name__)
models: Any = moto_stacks
parsing: Any = moto_parsing
create_resource = parsing.parse_and_create_resource


def install() -> None:
    """Put these in the place of moto's, for the whole process."""
    models.CloudFormationBackend.execute_change_set = execute
    parsing.parse_and_create_resource = watch_creation


def execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
    """Execute a change set; what fails is told by the stack's status and events, as on the service."""
    change_set = backend.describe_change_set(change_set_name)
    stack, kind = change_set.stack, change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
    try:
        change_set.apply()
    except Exception as error:
        log.exception("The stack %s", stack_name or stack.name)
        change_set.execution_status = "EXECUTE_FAILED"
        end(stack, roll_back(stack, kind, str(error)))
    else:
        change_set.execution_status = "EXECUTE_COMPLETE"
        settle(stack, change_set)
        end(stack, f"{kind}_COMPLETE")


def end(stack: Any, status: str) -> None:
    stack.status = status
    stack._add_stack_event(status)


def settle(stack: Any, change_set: Any) -> None:
    """Make a stack what its change set says."""
    forget_removed(stack)
    stack.template, stack.parameters = change_set.template, change_set.parameters
    stack.tags = change_set.tags or stack.tags
    stack._parse_template()
    stack.output_map = stack._create_output_map()


def roll_back(stack: Any, kind: str, reason: str) -> str:
    """Remove what a failed creation made, or change a stack back; the status that it is left in."""
    ended = "ROLLBACK" if kind == "CREATE" else "UPDATE_ROLLBACK"
    stack.status = f"{ended}_IN_PROGRESS"
    stack._add_stack_event(stack.status, resource_status_reason=reason)
    try:
        if kind == "CREATE":
            stack.resource_map.delete()
        else:
            forget_removed(stack)
            forget_unmade(stack)
            stack.resource_map.update(stack.template_dict, stack.parameters)
    except Exception:
        log.exception("Rolling back the stack %s", stack.name)
        return f"{ended}_FAILED"
    return f"{ended}_COMPLETE"


def forget_removed(stack: Any) -> None:
    """Let go of what an update removed: moto would take it for made when it is to be made again."""
    held = stack.resource_map
    for name in set(stack.template_dict.get("Resources", {})) - set(held._resource_json_map):
        held._parsed_resources.pop(name, None)


def forget_unmade(stack: Any) -> None:
    """Let go of what an update never came to make: moto would remove it."""
    held = stack.resource_map
    there = {name: body for name, body in held._resource_json_map.items() if name in held._parsed_resources}
    held._resource_json_map = there


def watch_creation(logical: str, told: Properties, resources: Any, account_id: str, region_name: str) -> Any:
    """Create a resource and tell of it in the stack's events."""
    stack = models.cloudformation_backends[account_id][region_name].stacks.get(resources.stack_id)
    try:
        made = create_resource(logical, told, resources, account_id, region_name)
    except Exception as error:
        tell(stack, logical, "", told["Type"], "CREATE_FAILED", str(error))
        raise
    if made is not None:
        tell(stack, logical, str(made.physical_resource_id), told["Type"], "CREATE_COMPLETE")
    return made


def tell(stack: Any, logical: str, physical: str, kind: str, status: str, reason: str | None = None) -> None:
    if stack is not None:
        event = models.Event(stack.stack_id, stack.name, logical, physical, kind, status, reason, None)
        stack.events.append(event)
