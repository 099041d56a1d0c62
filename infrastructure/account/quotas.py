"""Read the account's limits before anything is created: what may train, on spot or not, and what may serve.

SageMaker's quotas are found by their names ("ml.g5.xlarge for spot training job usage"), because each instance type has
its own code and no list promises those. Service Quotas lists only quotas that were once changed in an account, so
missing ones are read from AWS's defaults. Lambda's concurrency comes from Lambda itself. Two quotas limit every
instance type alike, and AWS's documentation gives their names in several forms: they are found by a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrastructure.account.context import describe_error

ON_DEMAND, SPOT, ENDPOINT = "for training job usage", "for spot training job usage", "for endpoint usage"
SERVERLESS = "Maximum number of serverless endpoints"
SERVERLESS_AT_ONCE = "Maximum total concurrency that can be allocated across all serverless endpoints"
PARALLEL_TRIALS = "parallel training jobs per hyperparameter tuning job"
SERVERLESS_MEMORY = "memory size in MB per serverless endpoint"
PATTERNS = {
    PARALLEL_TRIALS: re.compile(r"parallel training jobs", re.IGNORECASE),
    SERVERLESS_MEMORY: re.compile(r"memory size.*serverless|serverless.*memory size", re.IGNORECASE),
}
AT_ONCE = 2  # trials that a run takes at a time unless its recipe says otherwise (chalicelib/recipes/values.py)
USUAL_MB = 3072  # of a serverless endpoint, unless its network needs more (chalicelib/recipes/serving_memory.py)
UNRESERVED = 100  # Lambda keeps this many for functions that reserve nothing, and refuses reservations beyond


@dataclass(frozen=True)
class Quota:
    """One of the account's limits, and the code with which to request more."""

    name: str
    value: float
    code: str


@dataclass(frozen=True)
class Limits:
    """What could be read. A missing quota is unknown, not zero. Concurrency covers all functions together."""

    quotas: Mapping[str, Quota]
    concurrency: int | None = None
    unreserved: int | None = None
    unreadable: tuple[str, ...] = ()

    def allows(self, name: str, wanted: int = 1) -> bool:
        """Return whether a quota allows this many, as far as is known."""
        return name not in self.quotas or self.quotas[name].value >= wanted

    def read_most(self, name: str) -> int:
        """Return a quota's value, or 0 if it is unknown."""
        return int(self.quotas[name].value) if name in self.quotas else 0


@dataclass(frozen=True)
class Choice:
    """What remains of the order within the account's limits, and what to tell the operator."""

    trial_types: tuple[str, ...]
    training_types: tuple[str, ...]
    use_spot: bool
    reserved_concurrency: int
    api_concurrency: int = 0
    max_parallel_trials: int = 0
    max_training_instances: int = 0
    max_serverless_memory_mb: int = 0
    told: tuple[str, ...] = ()
    hopeless: tuple[str, ...] = ()


def list_wanted(training: Iterable[str], endpoints: Iterable[str]) -> list[str]:
    """List the names of the quotas that a stage depends on."""
    jobs = [f"{each} {kind}" for each in dict.fromkeys(training) for kind in (ON_DEMAND, SPOT)]
    return [*jobs, *(f"{each} {ENDPOINT}" for each in endpoints), SERVERLESS, SERVERLESS_AT_ONCE, *PATTERNS]


def read_limits(quotas: Any, functions: Any, wanted: Sequence[str]) -> Limits:
    """Ask Service Quotas and Lambda. What cannot be read is reported in `unreadable` and blocks nothing."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: dict[str, Quota] = {}
    unreadable: list[str] = []
    try:
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            if missing := [name for name in wanted if name not in found]:
                found |= _find_quotas(quotas, operation, set(missing))
    except (BotoCoreError, ClientError) as error:
        unreadable.append(f"SageMaker's quotas could not be read ({describe_error(error)})")
    concurrency = unreserved = None
    try:
        limit = functions.get_account_settings()["AccountLimit"]
        concurrency, unreserved = limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]
    except (BotoCoreError, ClientError) as error:
        unreadable.append(f"Lambda's limit of concurrent calls could not be read ({describe_error(error)})")
    return Limits(found, concurrency, unreserved, tuple(unreadable))


def _find_quotas(client: Any, operation: str, names: set[str]) -> dict[str, Quota]:
    found: dict[str, Quota] = {}
    request: dict[str, Any] = {"ServiceCode": "sagemaker", "MaxResults": 100}
    while True:
        page = getattr(client, operation)(**request)
        for each in page["Quotas"]:
            name = _recognise(each["QuotaName"])
            if name in names:
                found[name] = Quota(each["QuotaName"], each["Value"], each["QuotaCode"])
        if not page.get("NextToken") or len(found) == len(names):
            return found
        request["NextToken"] = page["NextToken"]


def _recognise(name: str) -> str:
    """Return the name by which a quota is known here."""
    return next((known for known, pattern in PATTERNS.items() if pattern.search(name)), name)


def choose(
    limits: Limits,
    *,
    trial_types: Sequence[str],
    training_types: Sequence[str],
    endpoint_types: Sequence[str],
    use_spot: bool,
    reserved: int,
    functions: int,
    api: int = 0,
    reserved_before: int = 0,
) -> Choice:
    """Fit the order into the limits.

    `functions` is how many functions would each reserve `reserved` calls, and the API's would reserve `api`. All
    together reserve `reserved_before` now.
    """
    told, hopeless = list(limits.unreadable), []
    every = list(dict.fromkeys([*trial_types, *training_types]))
    spot = use_spot and any(limits.allows(f"{each} {SPOT}") for each in every)
    if use_spot and not spot:
        told.append(
            "No spot instance may train here: all jobs run on demand (UseSpot=false)."
            f"{_ask(limits, every, SPOT, AT_ONCE)}"
        )
    kind = SPOT if spot else ON_DEMAND
    kept = {each for each in every if limits.allows(f"{each} {kind}")}
    for use, types, wanted in (("trials", trial_types, AT_ONCE), ("the final training", training_types, 1)):
        left_out = [each for each in types if each not in kept]
        if left_out and any(each in kept for each in types):
            told.append(f"{', '.join(left_out)} may not be used here, and is left out of what {use} run on.")
        elif left_out:
            hopeless.append(_explain_none(limits, use, types, kind, wanted))
    told += _tell_few(limits, [each for each in trial_types if each in kept], kind) + _tell_memory(limits)
    told += _tell_endpoints(limits, endpoint_types) + _tell_concurrency(limits)
    reservation = _check_reservation(limits, reserved * functions + api, reserved_before)
    reserved, api = (0, 0) if reservation else (reserved, api)
    return Choice(
        tuple(each for each in trial_types if each in kept) or tuple(trial_types),
        tuple(each for each in training_types if each in kept) or tuple(training_types),
        spot,
        reserved,
        api,
        limits.read_most(PARALLEL_TRIALS),
        _find_most([limits.read_most(f"{each} {kind}") for each in training_types if each in kept]),
        limits.read_most(SERVERLESS_MEMORY),
        (*told, *reservation),
        tuple(hopeless),
    )


def _find_most(known: Sequence[int]) -> int:
    """Return the most machines that any type may have; 0 if one is unknown, which may have more."""
    return max(known, default=0) if all(known) else 0


def _explain_none(limits: Limits, use: str, types: Sequence[str], kind: str, wanted: int) -> str:
    """Explain that no type may be used, and how to get one: more of this kind of machine, or the other kind."""
    machines, switch = ("spot", "UseSpot=false") if kind == SPOT else ("on-demand", "UseSpot=true")
    other = ON_DEMAND if kind == SPOT else SPOT
    also = any(limits.allows(f"{each} {other}") for each in types)
    way = f" Or deploy with {switch}, where the account has a quota." if also else ""
    several = f" A run takes {wanted} machines at a time (parallel_trials in the recipe)." if wanted > 1 else ""
    asking = _ask(limits, types, kind, wanted)
    return (
        f"No instance may run {use}: the quotas of {machines} machines are 0.{several}{way} Ask for {wanted}:{asking}"
    )


def _tell_few(limits: Limits, types: Sequence[str], kind: str) -> list[str]:
    """Tell what quotas below what a run wants mean: fewer trials at a time, or types that are passed over."""
    few = [each for each in types if not limits.allows(f"{each} {kind}", AT_ONCE)]
    told = []
    if few and len(few) == len(types):
        told.append(
            f"{', '.join(few)} may be used by one job at a time here: a run, which wants {AT_ONCE} (parallel_trials in "
            f"the recipe), takes one trial at a time and longer. Ask for {AT_ONCE}:{_ask(limits, few, kind, AT_ONCE)}"
        )
    elif few:
        told.append(
            f"{', '.join(few)} may be used by one job at a time here: trials, {AT_ONCE} at a time, run on the others."
            f"{_ask(limits, few, kind, AT_ONCE)}"
        )
    most = limits.quotas.get(PARALLEL_TRIALS)
    if most and most.value < AT_ONCE:
        told.append(f"A tuning may run {most.value:g} trial at a time here.\n    {request_more(most, AT_ONCE)}")
    return told


def _tell_memory(limits: Limits) -> list[str]:
    quota = limits.quotas.get(SERVERLESS_MEMORY)
    if quota is None or quota.value >= USUAL_MB:
        return []
    return [
        f"A serverless endpoint may have {quota.value:g} MB here, and recipes ask for {USUAL_MB}: they must set "
        f"endpoint.memory_mb, or are refused.\n    {request_more(quota, USUAL_MB)}"
    ]


def _ask(limits: Limits, types: Iterable[str], kind: str, wanted: int = 1) -> str:
    """Return the commands that request this many instances."""
    names = [f"{each} {kind}" for each in types]
    return "".join(f"\n    {request_more(limits.quotas[name], wanted)}" for name in names if name in limits.quotas)


def request_more(quota: Quota, wanted: int = 1) -> str:
    """Return the command that asks AWS to raise a quota, which takes hours to days."""
    command = "aws service-quotas request-service-quota-increase --service-code sagemaker"
    return f"{command} --quota-code {quota.code} --desired-value {wanted}   # {quota.name}: {quota.value:g}"


def _tell_endpoints(limits: Limits, types: Sequence[str]) -> list[str]:
    told = []
    refused = [limits.quotas[name] for name in (SERVERLESS, SERVERLESS_AT_ONCE) if not limits.allows(name)]
    if refused:
        commands = "".join(f"\n    {request_more(each, 5)}" for each in refused)
        told.append(f"No serverless endpoint may be made here: recipes must ask for endpoint.kind instance.{commands}")
    if types and not any(limits.allows(f"{each} {ENDPOINT}") for each in types):
        commands = _ask(limits, types, ENDPOINT)
        told.append(f"No endpoint on instances may be made here: recipes must stay with serverless ones.{commands}")
    return told


def _tell_concurrency(limits: Limits) -> list[str]:
    if limits.concurrency is None or limits.concurrency >= UNRESERVED:
        return []
    command = "aws service-quotas request-service-quota-increase --service-code lambda"
    return [
        f"All functions of this account together may run {limits.concurrency} calls at once: uploads and predictions "
        f"wait for one another.\n    {command} --quota-code L-B99A9384 --desired-value 1000"
    ]


def _check_reservation(limits: Limits, wanted: int, before: int) -> list[str]:
    """Explain why nothing is reserved; empty if what is wanted can be."""
    free = None if limits.unreserved is None else limits.unreserved + before
    if not wanted or free is None or free - wanted >= UNRESERVED:
        return []
    return [
        f"Nothing is reserved for the functions: {wanted} of the {free} free calls "
        f"would leave fewer than the {UNRESERVED} that Lambda keeps for all (ReservedConcurrency=0, ApiConcurrency=0)."
    ]
