"""Choose what befalls each call to AWS, by chance: the same seed chooses the same."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CHANGES = ("create", "stop", "delete", "update", "register", "deregister")  # of SageMaker and of its scaling
WEIGHTS = {
    "throttled": 3,
    "failed": 2,
    "killed before": 2,
    "killed after": 3,
    "killed in flight": 1,
    "answer lost": 3,
    "repeated": 3,
    "slow before": 6,
    "slow after": 6,
    "conflict": 2,
    "entry refused": 2,
}
KINDS, CUMULATED = list(WEIGHTS), list(itertools.accumulate(WEIGHTS.values()))
ONLY_IN = {"conflict": ("put_object",), "entry refused": ("put_events",)}
READS = ("get", "head", "list", "describe")
HARMLESS_TWICE = ("repeated", "killed in flight")  # of a call that only reads


@dataclass(frozen=True)
class Call:
    """A call to AWS, as it is shown in a trace."""

    operation: str
    request: dict[str, Any]

    @property
    def what(self) -> str:
        """Return what the call is about: a key, a name, a notification."""
        names = (str(self.request[name]) for name in self.request if name in ("Key", "Prefix", "Subject"))
        return next(names, "") or next((str(each) for name, each in self.request.items() if name.endswith("Name")), "")

    @property
    def notice(self) -> tuple[str, str] | None:
        """Return the run and the notification that the call sends or records as sent."""
        if self.operation == "put_events":
            detail = json.loads(self.request["Entries"][0]["Detail"])
        elif self.operation == "publish":
            detail = json.loads(self.request["Message"])
        elif self.operation == "put_object" and "/notices/" in self.request["Key"]:
            _, run_id, _, name = self.request["Key"].split("/")
            return run_id, name.split(".")[0].removesuffix("-sns").removesuffix("-events")
        else:
            return None
        return detail["run_id"], detail["event"].lower().replace(" ", "-")


@dataclass(frozen=True)
class Focus:
    """Calls that meet a fault very often: by the beginning of the operation, and by a part of what it is about."""

    operation: str = ""
    part: str = ""
    chance: float = 0.4

    def matches(self, call: Call) -> bool:
        return call.operation.startswith(self.operation) and self.part in call.what


@dataclass(frozen=True)
class Outage:
    """A time, in seconds from a history's beginning, in which AWS refuses an operation."""

    operation: str
    begin: float
    end: float
    code: str


@dataclass
class Faults:
    """How often a call meets a fault: a change on SageMaker, a write or a message, a read. `pace` stretches waits."""

    dice: random.Random
    of_changes: float = 0.0
    of_writes: float = 0.0
    of_reads: float = 0.0
    pace: float = 1.0
    focus: Focus | None = None
    outages: Sequence[Outage] = ()
    wounds: Counter[tuple[str, str]] = field(default_factory=Counter)

    def cease(self) -> None:
        """Let every call succeed from now on."""
        self.of_changes = self.of_writes = self.of_reads = 0.0
        self.outages, self.focus, self.pace = (), None, 1.0

    def find_outage(self, call: Call, seconds: float) -> Outage | None:
        for each in self.outages:
            if each.begin <= seconds < each.end and call.operation.startswith(each.operation):
                return each
        return None

    def choose(self, call: Call) -> str:
        """Return the fault of a call, or an empty text.

        A notification that may go out twice meets no second fault, since the third time would be the simulation's.
        """
        verb = call.operation.partition("_")[0]
        reads = verb in READS
        changes = verb in CHANGES and "object" not in call.operation
        chance = self.of_changes if changes else self.of_reads if reads else self.of_writes
        if self.focus and self.focus.matches(call):
            chance = self.focus.chance
        if self.dice.random() >= chance:
            return ""
        fault = self.dice.choices(KINDS, cum_weights=CUMULATED)[0]
        if call.operation not in ONLY_IN.get(fault, (call.operation,)) or (reads and fault in HARMLESS_TWICE):
            return ""
        if fault == "conflict" and not ({"IfMatch", "IfNoneMatch"} & call.request.keys()):
            return ""
        if notice := call.notice:
            if self.wounds[notice]:
                return ""
            self.wounds[notice] += 1
        return fault

    def draw_latency(self) -> float:
        return self.dice.uniform(0.005, 0.06) * self.pace

    def draw_hang(self) -> float:
        """Return how long a slow call hangs, in seconds: some outlive the function."""
        return self.dice.choice((1.0, 5.0, 20.0, 60.0, 150.0, 290.0, 400.0)) * self.dice.uniform(0.7, 1.3)
