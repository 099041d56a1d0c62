"""Take and release claims: while a claim is held, its holder alone may do something that no name makes idempotent.

A claim is an object written by a conditional put: {holder, expires_at, done, left}. A holder that dies keeps the others
waiting until its claim expires, so a claim must live longer than a function may run. A holder that releases its claim
lists in `left` what it could not finish; one that died leaves no list.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.aws.buckets import Bucket, Stored, to_json

CLAIM_SECONDS = 330  # longer than any function's timeout in .chalice/config.json: a test compares them


@dataclass(frozen=True)
class Claim:
    """A claim that is held. `etag` is the one under which its object may be replaced.

    `left` is what the previous holder could not finish: empty if there was none, None if it died or gave no list.
    """

    key: str
    holder: str
    etag: str
    left: tuple[str, ...] | None = ()


def take_claim(bucket: Bucket, key: str, holder: str, now: datetime) -> Claim | None:
    """Take a claim that is free, released or expired. Returns None if another holds it.

    `holder` is unique to each try: two looks at the same run are two holders.
    """
    body = _describe(holder, now + timedelta(seconds=CLAIM_SECONDS))
    etag = bucket.create(key, body)
    if etag is not None:
        return Claim(key, holder, etag)
    stored = bucket.read(key)
    if stored is None:
        return None
    before = stored.as_json()
    if datetime.fromisoformat(before["expires_at"]) > now:
        return _make_claim(key, holder, _find_own(body, stored), [])
    etag = bucket.replace(key, body, stored.etag) or _find_own(body, bucket.read(key))
    return _make_claim(key, holder, etag, before.get("left"))


def _make_claim(key: str, holder: str, etag: str | None, left: list[str] | None) -> Claim | None:
    return Claim(key, holder, etag, None if left is None else tuple(left)) if etag else None


def _find_own(body: bytes, stored: Stored | None) -> str | None:
    """Return the etag of what this try wrote, or None. If its answer was lost, S3 refuses the repeated call."""
    return stored.etag if stored and stored.body == body else None


def release_claim(bucket: Bucket, claim: Claim, now: datetime, left: Collection[str] = ()) -> None:
    """Release a claim to the next holder, and tell it what is `left` to do.

    Nothing happens if the claim has expired and another holds it by now.
    """
    bucket.replace(claim.key, _describe(claim.holder, now, left=sorted(left)), claim.etag)


def finish_claim(bucket: Bucket, claim: Claim, now: datetime) -> None:
    """Keep a claim for ever: the work that it was for is done."""
    never = datetime.max.replace(tzinfo=now.tzinfo)
    bucket.replace(claim.key, _describe(claim.holder, never, done=True), claim.etag)


def is_done(bucket: Bucket, key: str) -> bool:
    stored = bucket.read(key)
    return bool(stored and stored.as_json()["done"])


def _describe(holder: str, expires_at: datetime, *, done: bool = False, left: Collection[str] | None = None) -> bytes:
    told = {} if left is None else {"left": left}
    return to_json({"holder": holder, "expires_at": expires_at, "done": done} | told)
