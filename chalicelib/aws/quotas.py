"""Interpret the account's quotas: what a refusal means, and which instance type to request next. Pure.

A quota that is used up by others is worth waiting for; a quota smaller than the request will always refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from chalicelib.errors import QuotaExceeded, QuotaTooSmall

CONSOLE = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"
REFUSAL = re.compile(
    r"service limit '(?P<quota>[^']+)' is (?P<limit>\d+)(?P<rest>.*?request delta of (?P<wanted>\d+))?", re.DOTALL
)


def read_refusal(message: str) -> QuotaExceeded:
    """Return the error for AWS's message about a quota: QuotaTooSmall if waiting cannot help."""
    found = REFUSAL.search(message)
    if found is None:
        return QuotaExceeded(message)
    quota, limit, wanted = found["quota"], int(found["limit"]), int(found["wanted"] or 1)
    if wanted <= limit:
        return QuotaExceeded(message, quota=quota)
    shortage = f"'{quota}' is {limit}, and {wanted} {'is' if wanted == 1 else 'are'} asked for"
    return QuotaTooSmall(explain_shortages([shortage]), quota=quota, shortages=(shortage,), most=limit)


def explain_shortages(shortages: Sequence[str]) -> str:
    """Explain which quotas are too small, and what an operator can do about it."""
    told = "; ".join(shortages)
    quotas, those = ("quota is", "it") if len(shortages) == 1 else ("quotas are", "one of them")
    also = ', set "spot": false in it' if "spot training" in told else ""
    jobs = " (trials run parallel_trials at a time, the final training on instance_count machines)"
    why = jobs if "training job usage" in told and " are asked for" in told else ""
    return (
        f"The account's {quotas} too small, and no waiting helps: {told}{why}. Ask for {those} to be raised in Service "
        f"Quotas, under Amazon SageMaker ({CONSOLE}), or name other machines in the recipe{also}. "
        "Then try the run again."
    )


def ask_one_by_one(types: Sequence[str], ask: Callable[[str], None]) -> None:
    """Request a machine of each type in turn until no quota refuses it.

    Raises QuotaTooSmall if no type can ever be had, and QuotaExceeded if one becomes available once others release
    theirs.
    """
    refusals: list[QuotaExceeded] = []
    for each in types:
        try:
            ask(each)
        except QuotaExceeded as refusal:
            refusals.append(refusal)
        else:
            return
    raise choose_refusal(refusals)


def ask_for_any(types: tuple[str, ...], ask: Callable[[tuple[str, ...]], None]) -> None:
    """Request machines of which SageMaker itself chooses the type, dropping the types that its refusals name.

    Raises the same errors as `ask_one_by_one`.
    """
    refusals: list[QuotaExceeded] = []
    while types:
        try:
            ask(types)
        except QuotaExceeded as refusal:
            refusals.append(refusal)
            left = tuple(each for each in types if not refusal.quota.startswith(f"{each} "))
            types = left if len(left) < len(types) else ()
        else:
            return
    raise choose_refusal(refusals)


def choose_refusal(refusals: Sequence[QuotaExceeded]) -> QuotaExceeded:
    """Return the first refusal that may pass, or all refusals combined into one if none ever will."""
    passing = next((each for each in refusals if not isinstance(each, QuotaTooSmall)), None)
    if passing:
        return passing
    small = [each for each in refusals if isinstance(each, QuotaTooSmall)]
    shortages = tuple(part for each in small for part in each.shortages)
    most = max(each.most for each in small)
    return QuotaTooSmall(explain_shortages(shortages), quota=refusals[0].quota, shortages=shortages, most=most)
