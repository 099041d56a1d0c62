"""Keep SageMaker in memory: jobs, models and endpoints, which change when the world says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chalicelib.aws.sagemaker import Kind
from tests.fakes.clients import Client, fail

if TYPE_CHECKING:
    from tests.fakes.world import World

KINDS_IN_WORDS = {"HyperParameterTuningJob": "hyperparameter tuning job", "TrainingJob": "training job"}
ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012:"


class FakeSageMaker(Client):
    """Tuning jobs, training jobs, models, configs and endpoints. Nothing changes until the world ends it.

    `requests` keeps the requests by operation. `limits` names kinds of which the account has none left for now.
    `refused_parents` names tuning jobs that no other may begin with.
    `quotas` says how many machines of a type it may have at all, such as {"ml.g5.xlarge": 0}.
    """

    NOT_FOUND = ("HyperParameterTuningJob", "TrainingJob")

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.kept: dict[str, dict[str, dict[str, Any]]] = {kind.title: {} for kind in Kind}
        self.trials: dict[str, list[dict[str, Any]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.limits: set[str] = set()
        self.refused_parents: set[str] = set()
        self.used = 1
        self.quotas: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, method = name.partition("_")
        kind = next((each.title for each in Kind if each.method == method), None)
        work = getattr(type(self), f"_{verb}", None) if kind else None
        if work is None:
            return super().__getattr__(name)
        return lambda **request: self.ask(name, request, lambda: work(self, kind, request))

    def find(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.kept[kind]:
            text = f'Could not find {kind.lower()} "{ACCOUNT}{kind.lower()}/{name}".'
            code = "ResourceNotFound" if kind in self.NOT_FOUND else "ValidationException"
            raise fail(code, text, f"Describe{kind}")
        return self.kept[kind][name]

    def _create(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[f"{kind}Name"]
        arn = f"{ACCOUNT}{re.sub('(?<!^)(?=[A-Z])', '-', kind).lower()}/{name}"
        self.requests.append((f"Create{kind}", request))
        if kind in self.limits:
            self.refuse(kind, "'number of things'", self.used, self.used, 1)
        self.check_quotas(kind, request)
        for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
            if parent["HyperParameterTuningJobName"] in self.refused_parents:
                raise fail("ValidationException", "This parent tuning job cannot be used.", f"Create{kind}")
        if name in self.kept[kind]:
            code, text = "ValidationException", f'Cannot create already existing {kind.lower()} "{arn}".'
            if kind in self.NOT_FOUND:
                code, text = "ResourceInUse", f"{kind} names must be unique within an account and region"
            raise fail(code, text, f"Create{kind}")
        now = self.world.clock.now()
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self.kept[kind][name] = {**request, f"{kind}Arn": arn, "CreationTime": now, "LastModifiedTime": now}
        status = {"Endpoint": "Creating"}.get(kind, "InProgress")
        self.kept[kind][name][f"{kind}Status"] = status
        return {f"{kind}Arn": arn}

    def check_quotas(self, kind: str, request: dict[str, Any]) -> None:
        """Refuse a job or an endpoint for the first of its types whose quota is too small."""
        wanted = request.get("HyperParameterTuningJobConfig", {}).get("ResourceLimits", {})
        for instance_type in self.list_types(kind, request):
            asked = wanted.get("MaxParallelTrainingJobs", 1)
            limit = self.quotas.get(instance_type, asked)
            if limit < asked:
                use = "endpoint" if kind == "Endpoint" else "training job"
                self.refuse(kind, f"'{instance_type} for {use} usage'", limit, 0, asked)

    def list_types(self, kind: str, request: dict[str, Any]) -> list[str]:
        """List the instance types that a job, or an endpoint by its config, can get."""
        if kind == "Endpoint":
            config = self.kept["EndpointConfig"].get(request["EndpointConfigName"], {})
            return [each["InstanceType"] for each in config.get("ProductionVariants", []) if "InstanceType" in each]
        job = request.get("TrainingJobDefinition", request)
        several = job.get("HyperParameterTuningResourceConfig", {}).get("InstanceConfigs", [])
        machines = [*several, job["ResourceConfig"]] if "ResourceConfig" in job else several
        return [each["InstanceType"] for each in machines]

    def refuse(self, kind: str, quota: str, limit: int, used: int, asked: int) -> None:
        raise fail(
            "ResourceLimitExceeded",
            f"The account-level service limit {quota} is {limit} Instances, with current utilization of {used} "
            f"Instances and a request delta of {asked} Instances. Please use AWS Service Quotas to request an increase "
            "for this quota.",
            f"Create{kind}",
        )

    def _describe(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        found = self.find(kind, request[f"{kind}Name"])
        return {**found, "ProductionVariants": self.list_variants(found)} if kind == "Endpoint" else dict(found)

    def list_variants(self, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the variants of an endpoint as DescribeEndpoint shows them."""
        config = self.kept["EndpointConfig"].get(endpoint.get("EndpointConfigName", ""), {})
        return [
            {"VariantName": each["VariantName"], "CurrentServerlessConfig": each["ServerlessConfig"]}
            if "ServerlessConfig" in each
            else {"VariantName": each["VariantName"], "CurrentInstanceCount": each["InitialInstanceCount"]}
            for each in config.get("ProductionVariants", [])
        ]

    def _stop(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self.find(kind, request[f"{kind}Name"])
        self.requests.append((f"Stop{kind}", request))
        status, what = job[f"{kind}Status"], KINDS_IN_WORDS[kind]
        if status not in ("InProgress", "Stopping"):
            text = f"The request was rejected because the {what} is in status {status}."
            raise fail("ValidationException", text, f"Stop{kind}")
        job[f"{kind}Status"] = "Stopping"
        return {}

    def _delete(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[f"{kind}Name"]
        found = self.find(kind, name)
        self.requests.append((f"Delete{kind}", request))
        if found.get("EndpointStatus") in ("Creating", "Updating"):
            raise fail("ValidationException", f'Cannot update in-progress endpoint "{name}".', "DeleteEndpoint")
        del self.kept[kind][name]
        return {}

    def do_update_endpoint(self, EndpointName: str, EndpointConfigName: str) -> dict[str, Any]:
        endpoint = self.find("Endpoint", EndpointName)
        self.find("EndpointConfig", EndpointConfigName)
        self.check_quotas("Endpoint", {"EndpointConfigName": EndpointConfigName})
        if endpoint["EndpointStatus"] != "InService":
            text = f'Cannot update in-progress endpoint "{EndpointName}".'
            raise fail("ValidationException", text, "UpdateEndpoint")
        self._check_change(endpoint, EndpointConfigName)
        self.requests.append(("UpdateEndpoint", {"EndpointName": EndpointName, "config": EndpointConfigName}))
        endpoint["EndpointStatus"], endpoint["LastModifiedTime"] = "Updating", self.world.clock.now()
        endpoint["PendingDeploymentSummary"] = {"EndpointConfigName": EndpointConfigName}
        return {}

    def _check_change(self, endpoint: dict[str, Any], config: str) -> None:
        """Refuse what SageMaker cannot change: machines into serverless, and the type of machines that scale."""
        configs = self.kept["EndpointConfig"]
        [old], [new] = (configs[name]["ProductionVariants"] for name in (endpoint["EndpointConfigName"], config))
        if "InstanceType" in old and "ServerlessConfig" in new:
            text = "Updating an instance-based endpoint to a serverless endpoint is not supported."
            raise fail("ValidationException", text, "UpdateEndpoint")
        target = f"endpoint/{endpoint['EndpointName']}/variant/{old['VariantName']}"
        if target in self.world.autoscaling.targets and old.get("InstanceType") != new.get("InstanceType"):
            text = f"The variant {old['VariantName']} has a scalable target registered: deregister it first."
            raise fail("ValidationException", text, "UpdateEndpoint")

    def do_list_training_jobs_for_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str, **_: Any) -> Any:
        self.find("HyperParameterTuningJob", HyperParameterTuningJobName)
        return {"TrainingJobSummaries": self.trials.get(HyperParameterTuningJobName, [])}

    def _list_kind(self, kind: str, containing: str) -> dict[str, Any]:
        return {f"{kind}s": [each for name, each in self.kept[kind].items() if containing in name]}

    def do_list_endpoints(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("Endpoint", NameContains)

    def do_list_endpoint_configs(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("EndpointConfig", NameContains)

    def do_list_models(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("Model", NameContains)

    def do_list_tags(self, ResourceArn: str) -> Any:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self.tags[ResourceArn].items()]}

    def count(self, operation: str) -> int:
        return sum(asked == operation for asked, _ in self.requests)
