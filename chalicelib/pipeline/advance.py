"""Move a run: observe, decide, act, until nothing is left to do now.

`advance` may be called for any run at any time, twice at once, and may be killed between any two calls: the next look
finishes what it did not. Calls that no name makes idempotent are made under the model's lease.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from chalicelib import errors
from chalicelib.pipeline.actions import act, finish, hold
from chalicelib.pipeline.decisions import decide, decide_trouble, decide_wait, find_due_notices, is_on_endpoint
from chalicelib.pipeline.notifications import send_notice
from chalicelib.pipeline.observing import observe
from chalicelib.runs.claims import Claim, release_claim, take_claim
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Observation, can_be_approved
from chalicelib.runs.steps import Close, DeleteEndpoint, Deploy, Finish, Hold, Inspect, Pin, Scale, Step, Wait
from chalicelib.services import Services

MAX_STEPS = 40  # twice as many as the longest path has
SLOW = (Pin, Inspect)
LEASE_TRIES = 3
FOR_EVER = (errors.InvalidRequest, errors.AlreadyExists, errors.QuotaTooSmall)
TROUBLE = "trouble.json"


def advance(run_id: str, services: Services, *, is_quick: bool = False) -> str:
    """Move a run as far as it goes now. Returns its status. Raises RunNotFound, or ServiceError: try again later.

    With `is_quick`, the run stays before a step that may take minutes.
    """
    with services.log.append_context_keys(run_id=run_id):
        run = services.runs.get(run_id)
        try:
            return _move(run, services, is_quick=is_quick)
        except errors.ServiceError as error:
            if not _give_up(run, error, services):
                raise
            return _move(run, services, is_quick=is_quick)


def _move(run: Run, services: Services, *, is_quick: bool) -> str:
    """Look, and take one step after the other, until nothing is left to do now. Returns the run's status."""
    indexed, previous = None, None
    for _ in range(MAX_STEPS):
        seen = observe(run, services)
        if (told := (seen.status, seen.wait_reason)) != indexed:
            _index(seen, services)
            indexed = told
        seen = replace(seen, files=seen.files | _send_due_notices(seen, services))
        step = decide(seen)
        services.log.info("decided", extra={"stage": seen.status, "step": repr(step)[:300]})
        if step == previous or (is_quick and isinstance(step, SLOW)):
            break  # the same step again: what it did is not to be seen yet, so a later look goes on
        goes_on = _take(step, seen, services)
        if goes_on is not None and seen.trouble:
            services.bucket.delete(f"{run.folder}{TROUBLE}")
        if not goes_on:
            break
        previous = step
    return seen.status


def _give_up(run: Run, error: errors.ServiceError, services: Services) -> bool:
    """Write when a call began to fail, and end the run if it has failed for too long. Returns whether it has ended.

    The end of a run that may be on its endpoint by now is written under the lease, if the run is not on it.
    """
    services.log.exception("a call failed")
    now, trouble = services.clock.now(), services.runs.read_file(run.run_id, TROUBLE)
    if trouble is None:
        services.runs.write_file(run.run_id, TROUBLE, {"format": 1, "reason": error.message, "since": now})
        return False
    seen = _see_what_can_be_seen(run, services)
    step = decide_trouble(seen, error, datetime.fromisoformat(trouble["since"]))
    if step is None:
        return False
    if "decision.json" not in seen.files:
        act(step, seen, services)
        return True
    claim = take_lease(run, services)
    if claim is None:
        return False
    try:
        seen = _see_what_can_be_seen(run, services)
        if not is_on_endpoint(seen):
            act(step, seen, services)
        return not is_on_endpoint(seen)
    finally:
        release_claim(services.bucket, claim, services.clock.now())


def _see_what_can_be_seen(run: Run, services: Services) -> Observation:
    """Observe a run, or what the bucket says of it where SageMaker cannot be asked."""
    try:
        return observe(run, services)
    except errors.ServiceError:
        files = frozenset(services.runs.list_files(run.run_id))
        result = services.runs.read_result(run.run_id)
        return Observation(run=run, now=services.clock.now(), files=files, result=result)


def _index(seen: Observation, services: Services) -> None:
    """Show the run in the list as it is now, and remove a wait that is over or has another reason by now."""
    is_approved = seen.is_approved
    if seen.waiting:
        services.runs.clear_waiting(seen.run, seen.wait_reason, is_approved=is_approved)
    reason = (seen.result or {}).get("reason") or seen.wait_reason
    services.runs.index(seen.run, seen.status, reason, seen.facts, is_approved=is_approved)


def _take(step: Step, seen: Observation, services: Services) -> bool | None:
    """Take a step. Returns whether to look again at once, and None if another look keeps this one from it."""
    if isinstance(step, Wait):
        return False
    try:
        if isinstance(step, Hold):
            act(step, seen, services)
            return hold(seen, step, services)
        if _needs_lease(step, seen):
            return _act_under_lease(seen.run, services)
        if isinstance(step, Close):
            services.runs.close(seen.run.run_id)
            return False
        act(step, seen, services)
    except FOR_EVER as error:  # the same call would fail again, so the run ends here and says why
        services.log.exception("a step cannot be taken")
        finish(seen, "failed", error.message, services)
    except errors.QuotaExceeded as error:  # other runs of the account hold what this one needs: it waits its turn
        services.log.warning("a quota of the account is used up", extra={"why": error.message})
        return _wait_for_quota(seen, error, services)
    return True


def _wait_for_quota(seen: Observation, error: errors.QuotaExceeded, services: Services) -> bool:
    """Let the run wait, or end it if it has waited long enough. Returns whether to look again at once."""
    step = decide_wait(seen, "quota", error.message)
    if isinstance(step, Hold):
        return hold(seen, step, services)
    act(step, seen, services)
    return True


def _needs_lease(step: Step, seen: Observation) -> bool:
    is_end = isinstance(step, Finish) and step.status != "deployed" and seen.stage == "deploying"
    is_close = isinstance(step, Close) and can_be_approved(seen)  # an approval must not lose its marker
    return isinstance(step, Deploy | DeleteEndpoint | Scale) or is_end or is_close


def _act_under_lease(run: Run, services: Services) -> bool | None:
    """Take the lease on the dataset's endpoint, look again, then act. Returns None if another look holds the lease."""
    claim = take_lease(run, services)
    if claim is None:
        return None
    try:
        seen = observe(run, services)
        step = decide(seen)
        if isinstance(step, Close):
            services.runs.close(run.run_id)
            return False
        if _needs_lease(step, seen):
            act(step, seen, services)
        return True
    finally:
        release_claim(services.bucket, claim, services.clock.now())


def take_lease(run: Run, services: Services) -> Claim | None:
    """Take the lease on a dataset's endpoint, or return None if another look holds it for long."""
    key, holder = f"models/{run.dataset}/lease.json", services.make_id()
    for attempt in range(LEASE_TRIES):
        claim = take_claim(services.bucket, key, holder, services.clock.now())
        if claim:
            return claim
        services.clock.sleep(1.0 if attempt < LEASE_TRIES - 1 else 0.0)
    services.log.info("another deployment holds the lease", extra={"lease": key})
    return None


def _send_due_notices(seen: Observation, services: Services) -> frozenset[str]:
    """Send the notifications that are due. Returns the files that record them. The next look sends one that fails."""
    sent: set[str] = set()
    for notice in find_due_notices(seen):
        try:
            sent |= send_notice(notice, seen, services)
        except errors.ServiceError:
            services.log.exception("a notification could not be sent", extra={"notice": notice})
    return frozenset(sent)
