"""Serve the operations of endpoint configs: the models of an endpoint, their resources and shares of the traffic."""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, operation
from localcloud.sagemaker.core.listing import list_page
from localcloud.sagemaker.core.records import refuse_taken, require_record, show_record
from localcloud.sagemaker.core.tags import drop_tags, put_tags
from localcloud.sagemaker.core.unsupported import Rules, refuse_unsupported
from localcloud.sagemaker.hosting import models

KIND = "endpoint-config"
SORT_KEYS = {"Name": "EndpointConfigName", "CreationTime": "CreationTime"}
RULES: Rules = {
    "DataCaptureConfig": ({"EnableCapture": False},),
    "AsyncInferenceConfig": (),
    "ExplainerConfig": (),
    "ShadowProductionVariants": ([],),
    "ExecutionRoleArn": (),
    "VpcConfig": (),
    "EnableNetworkIsolation": (False,),
    "MetricsConfig": (),
    "CrossRegionTrafficConfig": (),
    "ProductionVariants[].InstancePools": ([],),
    "ProductionVariants[].AcceleratorType": (),
    "ProductionVariants[].CoreDumpConfig": (),
    "ProductionVariants[].EnableSSMAccess": (False,),
    "ProductionVariants[].ManagedInstanceScaling": (),
    "ProductionVariants[].RoutingConfig": ({"RoutingStrategy": "RANDOM"},),
    "ProductionVariants[].CapacityReservationConfig": (),
    "ProductionVariants[].AcceleratorPartitionLayouts": ([],),
    "ProductionVariants[].ServerlessConfig.ProvisionedConcurrency": (),
}


@operation
def create_endpoint_config(cloud: Cloud, request: Request) -> Response:
    """Record an endpoint config. Raises ValidationException if the name is taken or a model is missing."""
    refuse_unsupported(request, RULES)
    _check_variants(cloud, request["ProductionVariants"])
    _check_key(request)
    name = request["EndpointConfigName"]
    with cloud.lock:
        refuse_taken(cloud, KIND, name)
        arn = cloud.arn(KIND, name)
        put_tags(cloud, arn, request.get("Tags"))
        record = {
            "EnableNetworkIsolation": False,
            **{key: value for key, value in request.items() if key != "Tags"},
            "ProductionVariants": [{"InitialVariantWeight": 1.0} | one for one in request["ProductionVariants"]],
            "EndpointConfigArn": arn,
            "CreationTime": cloud.clock.now(),
        }
        cloud.store.put(KIND, name, record)
    return {"EndpointConfigArn": arn}


@operation
def describe_endpoint_config(cloud: Cloud, request: Request) -> Response:
    """Return what CreateEndpointConfig was given."""
    return show_record(require_record(cloud, KIND, request["EndpointConfigName"]))


@operation
def list_endpoint_configs(cloud: Cloud, request: Request) -> Response:
    """Return a page of endpoint configs, newest first."""
    records = cloud.store.list(KIND)
    page, token = list_page(
        records,
        request,
        name="EndpointConfigName",
        sort_keys=SORT_KEYS,
        sort_by="CreationTime",
        sort_order="Descending",
    )
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    return {"EndpointConfigs": [{name: one[name] for name in members} for one in page], "NextToken": token}


@operation
def delete_endpoint_config(cloud: Cloud, request: Request) -> Response:
    """Delete an endpoint config. Endpoints that use it continue to serve."""
    with cloud.lock:
        config = require_record(cloud, KIND, request["EndpointConfigName"])
        cloud.store.delete(KIND, config["EndpointConfigName"])
        drop_tags(cloud, config["EndpointConfigArn"])
    return {}


def is_serverless(variants: list[Record]) -> bool:
    """Return whether a config's variants run without instances. Either all of them do, or none."""
    return "ServerlessConfig" in variants[0]


def _check_variants(cloud: Cloud, variants: list[Record]) -> None:
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) < len(names):
        raise ValidationException(f"The production variant names must be unique; found {names}.")
    for variant in variants:
        if "ModelName" not in variant:
            raise ValidationException(f"ModelName is required for production variant {variant['VariantName']}.")
        require_record(cloud, models.KIND, variant["ModelName"])
        _check_capacity(variant)
        _check_network(cloud, variant)
    if len({"ServerlessConfig" in variant for variant in variants}) > 1 or (is_serverless(variants) and len(names) > 1):
        raise ValidationException("A serverless endpoint has exactly one production variant.")


def _check_capacity(variant: Record) -> None:
    on_instances = "InstanceType" in variant and "InitialInstanceCount" in variant
    if on_instances == ("ServerlessConfig" in variant) or ("InstanceType" in variant) != on_instances:
        raise ValidationException(
            f"Production variant {variant['VariantName']} must have either InstanceType and InitialInstanceCount, or "
            "ServerlessConfig."
        )
    memory = variant.get("ServerlessConfig", {}).get("MemorySizeInMB", 1024)
    if memory % 1024:
        raise ValidationException(
            f"MemorySizeInMB is {memory}; valid values are 1024, 2048, 3072, 4096, 5120 and 6144 MB."
        )


def _check_network(cloud: Cloud, variant: Record) -> None:
    model = require_record(cloud, models.KIND, variant["ModelName"])
    if "ServerlessConfig" in variant and "VpcConfig" in model:
        raise ValidationException(
            f"A serverless endpoint cannot be in a VPC: the model {model['ModelName']} of production variant "
            f"{variant['VariantName']} has a VpcConfig."
        )


def _check_key(request: Request) -> None:
    if request.get("KmsKeyId") and is_serverless(request["ProductionVariants"]):
        raise ValidationException("KmsKeyId cannot be specified for serverless production variants.")
