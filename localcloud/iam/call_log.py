"""Log what the roles have called, each kind of call once, in HOME/calls.jsonl; a test proves the policies from it.

A line is {at, role, service, operation, allowed, needs: [{action, resource, context}]}. A repeated call adds no line,
so an idle cloud writes nothing. At `LIMIT` bytes the file becomes `calls.1.jsonl` and replaces the previous one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcloud.iam.policies import Need

LIMIT = 16 << 20
KEPT_KEYS = 20_000


@dataclass(frozen=True)
class Recorded:
    """A call that a role made, and the permissions that it needed."""

    role: str
    service: str
    operation: str
    needs: tuple[Need, ...]
    allowed: bool = True


class CallLog:
    """The file, open for writing. Thread-safe."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path, self._limit = path, limit
        self._lock = threading.Lock()
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, call: Recorded) -> None:
        """Write a call, unless it has been written since the start. A full disk leaves it out and stops nobody."""
        key = (call.role, call.service, call.operation, call.allowed, call.needs)
        with self._lock:
            if key in self._seen:
                return
            if len(self._seen) >= KEPT_KEYS:
                self._seen.clear()
            with suppress(OSError):
                self._write(call)
                self._seen.add(key)

    def _write(self, call: Recorded) -> None:
        if self._path.exists() and self._path.stat().st_size >= self._limit:
            self._path.replace(self._path.with_suffix(f".1{self._path.suffix}"))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(describe(call)) + "\n")


def describe(call: Recorded) -> dict[str, Any]:
    """Return a call as the members of its line."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "role": call.role,
        "service": call.service,
        "operation": call.operation,
        "allowed": call.allowed,
        "needs": [
            {"action": need.action, "resource": need.resource, "context": dict(need.context)} for need in call.needs
        ],
    }


def read_calls(paths: Sequence[Path]) -> Iterator[Recorded]:
    """Yield the calls in the files; a missing file is skipped."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            told = json.loads(line)
            needs = tuple(Need(**need) for need in told["needs"])
            yield Recorded(told["role"], told["service"], told["operation"], needs, told["allowed"])
