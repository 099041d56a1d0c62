"""Identify callers by their access keys: the administrator's, and those of roles' sessions and IAM users.

Sessions are moto's, so that GetCallerIdentity knows them too. A function's session has the function's name; a job's and
an endpoint's are called SageMaker, as on AWS. The administrator's key is the one in the file `env`. It may do
everything, and so may the keys of IAM users. There are no other keys.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from localcloud.common.keys import Credentials
from localcloud.iam.policies import Document, Need, find_refusal

ACCOUNT, PARTITION = "123456789012", "aws"
SESSION_SECONDS = 43_200


@dataclass(frozen=True)
class Principal:
    """A session of a role."""

    role: str
    session: str

    @property
    def arn(self) -> str:
        return f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.role}/{self.session}"


class Identities:
    """The keys, the sessions and the roles of the account. Thread-safe."""

    def __init__(self, region: str, administrator: Credentials) -> None:
        self._region, self._administrator = region, administrator
        self._sessions: dict[str, Principal] = {}
        self._credentials: dict[tuple[str, str], Mapping[str, str]] = {}
        self._lock = threading.Lock()
        # moto looks each of them up by account and partition again, with locks: a tenth of a small request
        self._sts, self._iam = sts_backends[ACCOUNT][PARTITION], iam_backends[ACCOUNT][PARTITION]

    def assume(self, role_arn: str, session: str) -> Mapping[str, str]:
        """Return variables with a role's credentials, the same at each call; empty where there is no such role."""
        if not self._has_role(role_arn):
            return {}
        with self._lock:
            if (role_arn, session) not in self._credentials:
                made = self._sts.assume_role(
                    region_name=self._region,
                    role_session_name=session,
                    role_arn=role_arn,
                    policy="",
                    duration=SESSION_SECONDS,
                    external_id="",
                )
                self._credentials[role_arn, session] = {
                    "AWS_ACCESS_KEY_ID": made.access_key_id,
                    "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
                    "AWS_SESSION_TOKEN": made.session_token,
                }
            return self._credentials[role_arn, session]

    def find_credentials(self, key_id: str) -> Credentials | None:
        """Return the access key of this id, with its secret; None where there is no such key, or it is switched off."""
        if key_id == self._administrator.access_key_id:
            return self._administrator
        session = self._sts.get_assumed_role_from_access_key(key_id)
        if session is not None:
            return Credentials(session.access_key_id, session.secret_access_key, session.session_token)
        users = list(self._iam.users.values())
        keys = (key for user in users for key in user.access_keys)
        found = next((key for key in keys if key.access_key_id == key_id and key.status == "Active"), None)
        return Credentials(found.access_key_id, found.secret_access_key) if found else None

    def find(self, key_id: str) -> Principal | None:
        """Return the session whose key this is, or None where it is the administrator's or a user's."""
        if key_id not in self._sessions and key_id.startswith("ASIA"):
            made = self._sts.get_assumed_role_from_access_key(key_id)
            if made is not None:
                self._sessions[key_id] = Principal(made.role_arn.rpartition("/")[2], made.session_name)
        return self._sessions.get(key_id)

    def find_refusal(self, role: str, need: Need) -> str | None:
        """Return why a role's present policies refuse something, or None where they allow it."""
        return _judge(self._list_policies(role), need)

    def _list_policies(self, role: str) -> tuple[str, ...]:
        """List a role's present policies as text, inline and attached; none for a role that no longer exists."""
        found = self._iam.roles
        held = next((each for each in found.values() if each.name == role), None)
        if held is None:
            return ()
        versions = (version for policy in held.managed_policies.values() for version in policy.versions)
        attached = (version.document for version in versions if version.is_default)
        return (*held.policies.values(), *attached)

    def _has_role(self, arn: str) -> bool:
        return any(role.arn == arn for role in self._iam.roles.values())


@lru_cache(4096)
def _judge(policies: tuple[str, ...], need: Need) -> str | None:
    """Judge by the texts of policies. The same question is asked at each of a role's calls, so its answer is kept."""
    return find_refusal([_parse(text) for text in policies], need)


@lru_cache(256)
def _parse(text: str) -> Document:
    read: Document = json.loads(text)
    return read
