"""Give SageMaker the clients and variables to reach AWS in a role's name, with the credentials of a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.iam.identity import Identities

SESSION = "SageMaker"
Connect = Callable[[str, Mapping[str, str]], Any]


@dataclass(frozen=True)
class Access:
    """Clients of S3 and CloudWatch Logs, and the variables that give a program the same credentials."""

    s3: Any
    logs: Any
    variables: Mapping[str, str]


class Accesses:
    """One access for each role, created when it is first needed. `connect(service, variables)` builds a client."""

    def __init__(self, identities: Identities, connect: Connect) -> None:
        self._identities, self._connect = identities, connect
        self._made: dict[str, Access] = {}
        self._lock = threading.Lock()

    def of_role(self, arn: str) -> Access | None:
        """Return the access of a role, or None where the account has no such role; then nothing is refused."""
        with self._lock:  # boto3 builds one client at a time
            if arn not in self._made:
                variables = self._identities.assume(arn, SESSION)
                if not variables:
                    return None
                s3, logs = (self._connect(service, variables) for service in ("s3", "logs"))
                self._made[arn] = Access(s3, logs, variables)
            return self._made[arn]
