"""Execute change sets as CloudFormation does, which moto's engine does not.

Each resource gets an event, a failure is rolled back, and the stack's template, parameters and outputs are those of
the change set that was executed last.
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
    """Replace moto's functions by these, for the whole process."""
    models.CloudFormationBackend.execute_change_set = execute
    parsing.parse_and_create_resource = watch_creation


def execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
    """Execute a change set. As on the service, the stack's status and events report a failure."""
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
    """Give a stack the template, parameters, tags and outputs of its change set."""
    forget_removed(stack)
    stack.template, stack.parameters = change_set.template, change_set.parameters
    stack.tags = change_set.tags or stack.tags
    stack._parse_template()
    stack.output_map = stack._create_output_map()


def roll_back(stack: Any, kind: str, reason: str) -> str:
    """Remove what a failed creation made, or change a stack back. Return the status that it ends in."""
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
    """Forget what an update removed: moto would believe that it exists when it is to be created again."""
    held = stack.resource_map
    for name in set(stack.template_dict.get("Resources", {})) - set(held._resource_json_map):
        held._parsed_resources.pop(name, None)


def forget_unmade(stack: Any) -> None:
    """Forget what an update did not get to create: moto would try to remove it."""
    held = stack.resource_map
    there = {name: body for name, body in held._resource_json_map.items() if name in held._parsed_resources}
    held._resource_json_map = there


def watch_creation(logical: str, told: Properties, resources: Any, account_id: str, region_name: str) -> Any:
    """Create a resource and record it in the stack's events."""
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
