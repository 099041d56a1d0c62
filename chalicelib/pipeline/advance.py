"""Move a run: observe, decide, act, until nothing is left to do now.

`advance` may be called for any run at any time, twice at once, and may be killed between any two calls: the next look
finishes what it did not. Calls that no name makes idempotent are made under the model's lease.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib import errors
from chalicelib.pipeline.actions import act, finish, hold
from chalicelib.pipeline.decisions import decide, decide_wait, find_due_notices, name_notice
from chalicelib.pipeline.notifications import send_notice
from chalicelib.pipeline.observing import observe
from chalicelib.runs.claims import release_claim, take_claim
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Observation
from chalicelib.runs.steps import (
    Close,
    DeleteEndpoint,
    Deploy,
    Finish,
    Hold,
    Scale,
    Step,
    Wait,
)
from chalicelib.services import Services

MAX_STEPS = 40  # twice as many as the longest path has
LEASE_TRIES = 3
FOR_EVER = (errors.InvalidRequest, errors.AccessDenied, errors.AlreadyExists, errors.QuotaTooSmall)


def advance(run_id: str, services: Services) -> str:
    """Move a run as far as it goes now. Returns its status. Raises RunNotFound, or ServiceError: try again later."""
    with services.log.append_context_keys(run_id=run_id):
        run = services.runs.get(run_id)
        indexed, previous = None, None
        for _ in range(MAX_STEPS):
            seen = observe(run, services)
            if (told := (seen.status, seen.wait_reason)) != indexed:
                _index(seen, services)
                indexed = told
            seen = replace(seen, files=seen.files | _send_due_notices(seen, services))
            step = decide(seen)
            services.log.info("decided", extra={"stage": seen.status, "step": repr(step)[:300]})
            if step == previous or not _take(step, seen, services):
                break  # the same step again: what it did is not to be seen yet, so a later look goes on
            previous = step
        return seen.status


def _index(seen: Observation, services: Services) -> None:
    """Show the run in the list as it is now, and remove a wait that is over or has another reason by now."""
    if seen.waiting:
        services.runs.clear_waiting(seen.run, seen.wait_reason)
    services.runs.index(seen.run, seen.status, (seen.result or {}).get("reason") or seen.wait_reason)


def _take(step: Step, seen: Observation, services: Services) -> bool:
    """Take a step. Returns whether to look again at once."""
    if isinstance(step, Wait):
        return False
    if isinstance(step, Close):
        services.runs.close(seen.run.run_id)
        return False
    try:
        if isinstance(step, Hold):
            act(step, seen, services)
            return hold(seen, step, services)
        if _needs_lease(step, seen):
            return _act_under_lease(seen.run, services)
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
    is_end = isinstance(step, Finish) and step.status == "stopped" and seen.stage == "deploying"
    return isinstance(step, Deploy | DeleteEndpoint | Scale) or is_end


def _act_under_lease(run: Run, services: Services) -> bool:
    """Take the lease on the dataset's endpoint, look again, then act. Returns False if another look holds the lease."""
    key, holder = f"models/{run.dataset}/lease.json", services.make_id()
    for attempt in range(LEASE_TRIES):
        claim = take_claim(services.bucket, key, holder, services.clock.now())
        if claim:
            break
        services.clock.sleep(1.0 if attempt < LEASE_TRIES - 1 else 0.0)
    else:
        services.log.info("another deployment holds the lease", extra={"lease": key})
        return False
    try:
        seen = observe(run, services)
        step = decide(seen)
        if _needs_lease(step, seen):
            act(step, seen, services)
        return True
    finally:
        release_claim(services.bucket, claim, services.clock.now())


def _send_due_notices(seen: Observation, services: Services) -> frozenset[str]:
    """Send the notifications that are due. Returns the files that record them. The next look sends one that fails."""
    sent = set()
    for notice in find_due_notices(seen):
        try:
            if send_notice(notice, seen, services):
                sent.add(f"notices/{name_notice(notice)}.json")
        except errors.ServiceError:
            services.log.exception("a notification could not be sent", extra={"notice": notice})
    return frozenset(sent)
