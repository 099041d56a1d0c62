"""Answer what is known of the account: Service Quotas' quotas of SageMaker, Lambda's settings, cost-allocation tags.

moto knows none of them. `quotas` in faults.json overrides the quotas (a new account has 0 for spot), as it does for
SageMaker's own refusals. `Concurrent executions` is Lambda's quota.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from localcloud.common.faults import ReadFaults
from localcloud.protocol.service_model import load_service
from localcloud.protocol.wsgi import Environ, WsgiApp, answer_json, refuse_json

KINDS = ("for training job usage", "for spot training job usage", "for endpoint usage")
SERVERLESS = {
    "Maximum number of serverless endpoints": 50,
    "Maximum total concurrency that can be allocated across all serverless endpoints": 200,
}
PARALLEL_QUOTA = "Maximum number of parallel training jobs per hyperparameter tuning job"
MOST_PARALLEL = 10  # AWS's default, "Resource Limits for Automatic Model Tuning"
INSTANCES, PAGE = 4, 100
CONCURRENCY = "Concurrent executions"
SETTINGS = "/2016-08-19/account-settings"


class AccountLimits:
    """A WSGI application in front of moto's that answers these requests and passes on all others."""

    def __init__(self, moto: WsgiApp, faults: ReadFaults) -> None:
        self._moto, self._faults = moto, faults
        self._tags: dict[str, str] = {}

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if environ["PATH_INFO"].rstrip("/") == SETTINGS:
            return answer_json(start_response, {"AccountLimit": self._describe_concurrency(), "AccountUsage": {}})
        if operation == "RequestServiceQuotaIncrease":
            return refuse_json(start_response, "Nobody raises quotas here: write the number into faults.json.")
        if operation in ("ListCostAllocationTags", "UpdateCostAllocationTagsStatus"):
            return answer_json(start_response, self._handle_tags(json.loads(environ["wsgi.input"].read() or b"{}")))
        if operation not in ("ListServiceQuotas", "ListAWSDefaultServiceQuotas"):
            return self._moto(environ, start_response)
        told = json.loads(environ["wsgi.input"].read() or b"{}")
        return answer_json(start_response, self._list_quotas(told))

    def _handle_tags(self, told: dict[str, Any]) -> dict[str, Any]:
        """List or update cost-allocation tags. A tag is listed only from the second time on that it is asked for."""
        if "CostAllocationTagsStatus" in told:
            known = {each["TagKey"]: each["Status"] for each in told["CostAllocationTagsStatus"]}
            unknown = [key for key in known if key not in self._tags]
            self._tags |= {key: status for key, status in known.items() if key in self._tags}
            reason = {"Code": "TagKeysNotFoundException", "Message": "Tag keys not found"}
            return {"Errors": [{"TagKey": key, **reason} for key in unknown]}
        keys = told.get("TagKeys", list(self._tags))
        listed = [
            {"TagKey": key, "Type": "UserDefined", "Status": self._tags[key]} for key in keys if key in self._tags
        ]
        self._tags |= {key: "Inactive" for key in keys if key not in self._tags}
        return {"CostAllocationTags": listed}

    def _describe_concurrency(self) -> dict[str, int]:
        allowed = self._faults().quotas.get(CONCURRENCY, 1_000)
        return {
            "ConcurrentExecutions": allowed,
            "UnreservedConcurrentExecutions": allowed,
            "TotalCodeSize": 80_530_636_800,
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
        }

    def _list_quotas(self, told: dict[str, Any]) -> dict[str, Any]:
        values = {**list_defaults(), **self._faults().quotas} if told.get("ServiceCode") == "sagemaker" else {}
        first = int(told.get("NextToken", "0"))
        after = first + min(int(told.get("MaxResults", PAGE)), PAGE)
        page = list(values.items())[first:after]
        following = {"NextToken": str(after)} if after < len(values) else {}
        return {"Quotas": [describe_quota(name, value) for name, value in page], **following}


@cache
def list_defaults() -> Mapping[str, float]:
    """Return a quota of each kind for each instance type that SageMaker knows."""
    types: list[str] = load_service("sagemaker").shape_for("TrainingInstanceType").enum
    return (
        {f"{each} {kind}": INSTANCES for each in types for kind in KINDS} | SERVERLESS | {PARALLEL_QUOTA: MOST_PARALLEL}
    )


def describe_quota(name: str, value: float) -> dict[str, Any]:
    """Return a quota in Service Quotas' form; its code is derived from its name."""
    code = f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"
    return {"ServiceCode": "sagemaker", "QuotaName": name, "QuotaCode": code, "Value": value, "Adjustable": True}
