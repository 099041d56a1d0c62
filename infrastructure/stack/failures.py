"""Map CloudFormation's failure reasons, by their text, to the operator's next step."""

from __future__ import annotations

import re

ADVICE = (
    (
        r"UPDATE_ROLLBACK_FAILED",
        "Finish the rollback: aws cloudformation continue-update-rollback --stack-name STACK. Then deploy again.",
    ),
    (r"DELETE_FAILED", "Its events say what could not be removed. Remove that by hand, then: make destroy"),
    (
        r"[Aa]lready ?[Ee]xists|already exists",
        "Something of this name is there already, of another stack or left from an earlier one. `make destroy` of the "
        "stage removes what is left; another APP or STAGE has other names.",
    ),
    (
        r"UnreservedConcurrentExecution|ReservedConcurrentExecutions",
        'The account cannot reserve so many calls. Deploy with PARAMETERS="ReservedConcurrency=0 ApiConcurrency=0".',
    ),
    (
        r"CloudWatch Logs role ARN must be set",
        'API Gateway has no role for its logs in this region. Deploy with PARAMETERS="CreateApiLogsRole=true".',
    ),
    (
        r"not authorized|AccessDenied|Access Denied|UnauthorizedOperation",
        "Whoever deploys lacks this permission; docs/aws.md lists what is needed.",
    ),
    (
        r"LimitExceeded|limit exceeded|maximum number of",
        "A limit of the account stands in the way. Remove what is not used, or ask for more in Service Quotas.",
    ),
    (r"Parameters?:? .*(must|does not|do not)|failed to satisfy constraint", "Correct the parameter in PARAMETERS."),
    (r"email|Email", "The address in AlarmEmail is refused: correct it."),
)


def advise(reason: str) -> str:
    """Return the operator's next step, or where to look for one."""
    for pattern, advice in ADVICE:
        if re.search(pattern, reason):
            return advice
    return "docs/aws.md has a list of what may fail, and what to do then. Once mended, the same command goes on."
