"""Read the account's limits before anything is created: what may train, on spot or not, and what may serve.

SageMaker's quotas are found by their names ("ml.g5.xlarge for spot training job usage"), because each instance type has
its own code and no list promises those. Service Quotas lists only quotas that were once changed in an account, so
missing ones are read from AWS's defaults. Lambda's concurrency comes from Lambda itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrastructure.account.context import describe_error

ON_DEMAND, SPOT, ENDPOINT = "for training job usage", "for spot training job usage", "for endpoint usage"
SERVERLESS = "Maximum number of serverless endpoints"
SERVERLESS_AT_ONCE = "Maximum total concurrency that can be allocated across all serverless endpoints"
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

    def allows(self, name: str) -> bool:
        """Return whether a quota is above zero, as far as is known."""
        return name not in self.quotas or self.quotas[name].value >= 1


@dataclass(frozen=True)
class Choice:
    """What remains of the order within the account's limits, and what to tell the operator."""

    trial_types: tuple[str, ...]
    training_types: tuple[str, ...]
    use_spot: bool
    reserved_concurrency: int
    told: tuple[str, ...] = ()
    hopeless: tuple[str, ...] = ()


def list_wanted(training: Iterable[str], endpoints: Iterable[str]) -> list[str]:
    """List the names of the quotas that a stage depends on."""
    jobs = [f"{each} {kind}" for each in dict.fromkeys(training) for kind in (ON_DEMAND, SPOT)]
    return [*jobs, *(f"{each} {ENDPOINT}" for each in endpoints), SERVERLESS, SERVERLESS_AT_ONCE]


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
            if each["QuotaName"] in names:
                found[each["QuotaName"]] = Quota(each["QuotaName"], each["Value"], each["QuotaCode"])
        if not page.get("NextToken") or len(found) == len(names):
            return found
        request["NextToken"] = page["NextToken"]


def choose(
    limits: Limits,
    *,
    trial_types: Sequence[str],
    training_types: Sequence[str],
    endpoint_types: Sequence[str],
    use_spot: bool,
    reserved: int,
    reserved_before: int = 0,
    functions: int,
) -> Choice:
    """Fit the order into the limits.

    `functions` is how many functions would each reserve `reserved` calls; each reserves `reserved_before` now.
    """
    told, hopeless = list(limits.unreadable), []
    every = list(dict.fromkeys([*trial_types, *training_types]))
    spot = use_spot and any(limits.allows(f"{each} {SPOT}") for each in every)
    if use_spot and not spot:
        told.append(
            f"No spot instance may train here: all jobs run on demand (UseSpot=false).{_ask(limits, every, SPOT)}"
        )
    kept = {each for each in every if limits.allows(f"{each} {SPOT if spot else ON_DEMAND}")}
    for kind, types in (("trials", trial_types), ("the last training", training_types)):
        left_out = [each for each in types if each not in kept]
        if left_out and any(each in kept for each in types):
            told.append(f"{', '.join(left_out)} may not be used here, and is left out of what {kind} run on.")
        elif left_out:
            hopeless.append(f"No instance may run {kind}: {_ask(limits, types, SPOT if spot else ON_DEMAND).strip()}")
    told += _tell_endpoints(limits, endpoint_types) + _tell_concurrency(limits)
    reserved, reservation = _fit_reservation(limits, reserved, reserved_before, functions)
    return Choice(
        tuple(each for each in trial_types if each in kept) or tuple(trial_types),
        tuple(each for each in training_types if each in kept) or tuple(training_types),
        spot,
        reserved,
        (*told, *reservation),
        tuple(hopeless),
    )


def _ask(limits: Limits, types: Iterable[str], kind: str) -> str:
    """Return the commands that request one more instance."""
    names = [f"{each} {kind}" for each in types]
    return "".join(f"\n    {request_more(limits.quotas[name])}" for name in names if name in limits.quotas)


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


def _fit_reservation(limits: Limits, reserved: int, before: int, functions: int) -> tuple[int, list[str]]:
    free = None if limits.unreserved is None else limits.unreserved + before * functions
    if not reserved or free is None or free - reserved * functions >= UNRESERVED:
        return reserved, []
    return 0, [
        f"Nothing is reserved for the functions: {functions} times {reserved} of the {free} free calls "
        f"would leave fewer than the {UNRESERVED} that Lambda keeps for all (ReservedConcurrency=0)."
    ]
