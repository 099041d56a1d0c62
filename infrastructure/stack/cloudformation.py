"""Create, change and delete CloudFormation stacks, and report their progress meanwhile.

Every change goes through a change set: CloudFormation refuses a wrong template or parameter before it touches anything,
and says when there is nothing to change, which counts as success. Everything can be repeated from wherever it stopped.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infrastructure.account.context import describe_error, explained, page_through
from infrastructure.errors import CannotDeploy
from infrastructure.stack.failures import advise

Tell = Callable[[str], None]
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
UNCHANGED = ("didn't contain changes", "No updates are to be performed")
NEVER_MADE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")
POLL_SECONDS, LOOKS_UNTIL_BEGUN = 3.0, 10


@dataclass(frozen=True)
class StackRequest:
    """The desired state of a stack. `imports`: adopt existing resources of its names into a new stack."""

    name: str
    template_url: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    imports: bool = False


@dataclass
class Stacks:
    """One region's CloudFormation. `tell` takes a line for the operator, `sleep` takes seconds."""

    client: Any
    tell: Tell
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    _seen: set[str] = field(default_factory=set)

    def find(self, name: str) -> dict[str, Any] | None:
        """Return CloudFormation's description of a stack, or None if there is none of this name."""
        from botocore.exceptions import ClientError

        with explained(f"Looking for the stack {name}"):
            try:
                stack: dict[str, Any] = self.client.describe_stacks(StackName=name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def is_made(self, name: str) -> bool:
        """Return whether the stack was ever complete: one that never was is created again."""
        return self._find_made(name) is not None

    def apply(self, request: StackRequest) -> bool:
        """Create the stack or change it as requested. Returns False if there was nothing to change."""
        found = self._clear_way(request.name)
        kind = "UPDATE" if found and found["StackStatus"] != "REVIEW_IN_PROGRESS" else "CREATE"
        self._skip_events(request.name)
        if (change_set := self._plan(request, kind)) is None:
            return False
        with explained(f"Executing the change set of {request.name}"):
            self.client.execute_change_set(ChangeSetName=change_set)
        status = self._follow(request.name)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            raise CannotDeploy(self._explain_failure(request.name, status))
        return True

    def remove(self, name: str) -> bool:
        """Delete a stack and wait until it is gone. Returns False if there was none."""
        found = self._wait_for_rest(name)
        if found is None:
            return False
        identity = found["StackId"]  # a deleted stack can no longer be found by name
        self._skip_events(identity)
        with explained(f"Deleting the stack {name}"):
            self.client.delete_stack(StackName=name)
        status = self._follow(identity)
        if status != "DELETE_COMPLETE":
            raise CannotDeploy(self._explain_failure(identity, status))
        return True

    def read_outputs(self, name: str) -> dict[str, str]:
        """Return the stack's outputs."""
        found = self.find(name) or {}
        return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}

    def read_parameters(self, name: str) -> dict[str, str]:
        """Return the stack's parameters; empty if it was never complete."""
        found = self._find_made(name)
        return {each["ParameterKey"]: each["ParameterValue"] for each in (found or {}).get("Parameters", [])}

    def list_resources(self, name: str) -> list[dict[str, Any]]:
        """List the stack's resources: LogicalResourceId, PhysicalResourceId, ResourceType."""
        with explained(f"Listing the resources of {name}"):
            return list(page_through(self.client, "list_stack_resources", "StackResourceSummaries", StackName=name))

    def _find_made(self, name: str) -> dict[str, Any] | None:
        found = self.find(name)
        return found if found and found["StackStatus"] not in (*NEVER_MADE, "REVIEW_IN_PROGRESS") else None

    def _clear_way(self, name: str) -> dict[str, Any] | None:
        """Return the stack once it can be changed: one that was never complete is removed first."""
        found = self._wait_for_rest(name)
        status = found["StackStatus"] if found else ""
        if status in NEVER_MADE:
            self.tell(f"The stack {name} was never made whole ({status}): it is removed first.")
            self.remove(name)
            return None
        if status.endswith("_FAILED"):
            raise CannotDeploy(f"The stack {name} is stuck ({status}). {advise(status)}")
        return found

    def _wait_for_rest(self, name: str) -> dict[str, Any] | None:
        """Return the stack once nothing is changing it (CloudFormation does one thing at a time), or None."""
        while found := self.find(name):
            status = str(found["StackStatus"])
            if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
                return found
            self.tell(f"The stack {name} is being changed at this moment ({status}): waiting for its end.")
            self._skip_events(name)
            self._follow(name, began=True)
        return None

    def _plan(self, request: StackRequest, kind: str) -> str | None:
        """Return the identity of an executable change set, or None if there is nothing to change."""
        told: dict[str, Any] = {
            "StackName": request.name,
            "ChangeSetName": f"deploy-{int(self.clock() * 1000)}",
            "ChangeSetType": kind,
            "TemplateURL": request.template_url,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in request.parameters.items()],
            "Capabilities": CAPABILITIES,
            "Tags": [{"Key": k, "Value": v} for k, v in request.tags.items()],
        }
        if request.imports:
            told["ImportExistingResources"] = True
        with explained(f"Planning the stack {request.name}"):
            identity = str(self.client.create_change_set(**told)["Id"])
            answer = self._wait_for_plan(identity)
        if answer["Status"] != "FAILED":
            return identity
        reason = str(answer.get("StatusReason", ""))
        self.client.delete_change_set(ChangeSetName=identity)
        if any(words in reason for words in UNCHANGED):
            return None
        raise CannotDeploy(f"CloudFormation refuses the change of {request.name}: {reason}\n{advise(reason)}".rstrip())

    def _wait_for_plan(self, identity: str) -> dict[str, Any]:
        while True:
            answer: dict[str, Any] = self.client.describe_change_set(ChangeSetName=identity)
            if answer["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                return answer
            self.sleep(POLL_SECONDS)

    def _follow(self, name: str, *, began: bool = False) -> str:
        """Report each event of a stack until it rests, and return its final status.

        Just after a change was requested the status may still be the earlier one; there are no new events then.
        """
        for look in itertools.count():
            began = self._tell_events(name) or began
            found = self.find(name)
            status = found["StackStatus"] if found else "DELETE_COMPLETE"
            in_progress = status.endswith("_IN_PROGRESS")
            began = began or in_progress
            if not in_progress and (began or not found or look >= LOOKS_UNTIL_BEGUN):
                break
            self.sleep(POLL_SECONDS)
        self._tell_events(name)
        return status

    def _tell_events(self, name: str) -> bool:
        """Report new events, oldest first. Returns whether there were any."""
        new = [event for event in self._list_events(name) if event["EventId"] not in self._seen]
        self._seen |= {event["EventId"] for event in new}
        for event in new[::-1]:
            self.tell(describe_event(event))
        return bool(new)

    def _list_events(self, name: str) -> Iterable[dict[str, Any]]:
        """List the stack's events, newest first; empty if there is no stack."""
        from botocore.exceptions import ClientError

        try:
            return list(page_through(self.client, "describe_stack_events", "StackEvents", StackName=name))
        except ClientError as error:
            if "does not exist" in describe_error(error):
                return []
            raise CannotDeploy(f"The events of {name} cannot be read. {describe_error(error)}") from error

    def _skip_events(self, name: str) -> None:
        self._seen = {event["EventId"] for event in self._list_events(name)}
        self._began = self.clock()

    def _explain_failure(self, name: str, status: str) -> str:
        """Explain what failed first, in CloudFormation's words, and what to do about it."""
        failed = [each for each in self._list_events(name) if each["ResourceStatus"].endswith("_FAILED")]
        recent = [each for each in failed if each["Timestamp"].timestamp() >= self._began - 60][::-1]
        causes = [each for each in recent if "cancelled" not in each.get("ResourceStatusReason", "")]
        lines = [describe_event(each) for each in causes[:3]]
        reasons = " ".join(each.get("ResourceStatusReason", "") for each in causes)
        return "\n".join([f"The stack ended as {status}.", *lines, advise(reasons or status)]).rstrip()


def describe_event(event: Mapping[str, Any]) -> str:
    """Format an event as one line: when, what, its status, and the reason if there is one."""
    when = event["Timestamp"].strftime("%H:%M:%S")
    reason = event.get("ResourceStatusReason") or ""
    line = f"  {when}  {event['ResourceStatus']:<28} {event['LogicalResourceId']}"
    return f"{line}  ({reason})" if reason and reason != "User Initiated" else line
