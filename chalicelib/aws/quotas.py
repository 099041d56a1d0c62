"""Quotas of the account: what a refusal says, and instance types asked for one after another. Pure.

A quota that others use up is waited for; one that is smaller than what is asked for will refuse for ever.
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
    """The error for AWS's words about a quota: QuotaTooSmall where no waiting helps."""
    found = REFUSAL.search(message)
    if found is None:
        return QuotaExceeded(message)
    quota, limit, wanted = found["quota"], int(found["limit"]), int(found["wanted"] or 1)
    if wanted <= limit:
        return QuotaExceeded(message, quota=quota)
    shortage = f"'{quota}' is {limit}, and {wanted} {'is' if wanted == 1 else 'are'} asked for"
    return QuotaTooSmall(explain_shortages([shortage]), quota=quota, shortages=(shortage,))


def explain_shortages(shortages: Sequence[str]) -> str:
    """What an operator has to know of quotas that are too small, and can do."""
    told = "; ".join(shortages)
    quotas, those = ("quota is", "it") if len(shortages) == 1 else ("quotas are", "one of them")
    also = ', set "spot": false in it' if "spot training" in told else ""
    return (
        f"The account's {quotas} too small, and no waiting helps: {told}. Ask for {those} to be raised in Service "
        f"Quotas, under Amazon SageMaker ({CONSOLE}), or name other machines in the recipe{also}. "
        "Then POST /runs/RUN_ID/retry."
    )


def ask_one_by_one(types: Sequence[str], ask: Callable[[str], None]) -> None:
    """Ask for a machine of each type until no quota stands in the way.

    Raises QuotaTooSmall where none can ever be had, and QuotaExceeded where one can be once others give it back.
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
    """Ask for machines of which SageMaker itself chooses the type, without the types that its refusals name.

    Raises as above.
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
    """Of what refused every type: the first that may pass, or all of them as one where none ever will."""
    passing = next((each for each in refusals if not isinstance(each, QuotaTooSmall)), None)
    if passing:
        return passing
    shortages = tuple(part for each in refusals if isinstance(each, QuotaTooSmall) for part in each.shortages)
    return QuotaTooSmall(explain_shortages(shortages), quota=refusals[0].quota, shortages=shortages)
