"""Define the stack resources that moto's CloudFormation lacks: secrets, alarms, APIs with routes, lasting buckets.

A resource without a meaning on one machine (a permission to invoke, a budget, a stage …) is noted: it has a name and
attributes that others may refer to, and nothing behind them. `install` gives these models to moto's CloudFormation,
for the whole process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

from localcloud.stacks import engine
from localcloud.stacks.intrinsics import Properties
from localcloud.stacks.makers import Clients, Made, make_bucket, make_secret

Model: Any = CloudFormationModel  # moto calls its class methods with keyword arguments


class Noted(Model):  # type: ignore[misc]
    """A resource of a stack that has only a name. Subclasses make and delete a real resource."""

    name_property: ClassVar[str] = ""
    connect: ClassVar[list[Clients]] = []

    def __init__(self, made: Made) -> None:
        self._made = made

    @classmethod
    def client(cls, service: str) -> Any:
        """Return a client of this cloud's own API."""
        return cls.connect[-1](service)

    @classmethod
    def make(cls, name: str, _properties: Properties) -> Made:
        """Create the resource."""
        return Made(name)

    @classmethod
    def change(cls, made: Made, properties: Properties) -> Made:
        """Bring an existing resource to its new properties."""
        return cls.make(made.ref, properties)

    def delete(self, _account: str, _region: str) -> None:
        """Remove what `make` created."""

    @property
    def physical_resource_id(self) -> str:
        return self._made.ref

    def get_cfn_attribute(self, name: str) -> str:
        return self._made.attributes.get(name, f"{self._made.ref}-{name}")

    def is_created(self) -> bool:
        return True

    @classmethod
    def has_cfn_attr(cls, _attribute: str) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(cls, name: str, told: Properties, *_where: str, **_named: Any) -> Noted:
        properties = told.get("Properties", {})
        return cls(cls.make(properties.get(cls.name_property, name), properties))

    @classmethod
    def update_from_cloudformation_json(
        cls, *, original_resource: Noted, cloudformation_json: Properties, **_named: Any
    ) -> Noted:
        return cls(cls.change(original_resource._made, cloudformation_json.get("Properties", {})))


class Bucket(Noted):
    """A bucket made through S3's API, which is kept on disk here. An existing bucket joins a stack where the change set
    imports it by name. A stack never removes it: it is retained."""

    name_property = "BucketName"
    importable: ClassVar[set[str]] = set()

    @classmethod
    def make(cls, name: str, properties: Properties) -> Made:
        if name not in cls.importable and name in {each["Name"] for each in cls.client("s3").list_buckets()["Buckets"]}:
            raise ValueError(f"{name} already exists")
        cls.importable.discard(name)
        return make_bucket(cls.client, name, properties)

    @classmethod
    def change(cls, made: Made, properties: Properties) -> Made:
        return make_bucket(cls.client, made.ref, properties)


class Secret(Noted):
    """A secret whose value is generated once; a change of the stack does not touch it."""

    name_property = "Name"

    @classmethod
    def make(cls, name: str, properties: Properties) -> Made:
        return make_secret(cls.client, name, properties)

    @classmethod
    def change(cls, made: Made, _properties: Properties) -> Made:
        return made

    def delete(self, _account: str, _region: str) -> None:
        self.client("secretsmanager").delete_secret(SecretId=self._made.ref, ForceDeleteWithoutRecovery=True)


class Alarm(Noted):
    """An alarm. CloudFormation's properties of an alarm are those of PutMetricAlarm."""

    name_property = "AlarmName"

    @classmethod
    def make(cls, name: str, properties: Properties) -> Made:
        told = {key: value for key, value in properties.items() if key != "AlarmName"}
        cloudwatch = cls.client("cloudwatch")
        cloudwatch.put_metric_alarm(AlarmName=name, **told)
        (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return Made(name, {"Arn": alarm["AlarmArn"]})

    def delete(self, _account: str, _region: str) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[self._made.ref])


class Api(Noted):
    """A REST API with its routes. moto ignores an inline body in a template and imports only OpenAPI 3."""

    @classmethod
    def make(cls, name: str, properties: Properties) -> Made:
        api = cls.client("apigateway").create_rest_api(name=properties.get("Name", name))
        return cls.change(Made(api["id"]), properties)

    @classmethod
    def change(cls, made: Made, properties: Properties) -> Made:
        paths = properties.get("Body", {}).get("paths", {})
        document = {"openapi": "3.0.1", "info": {"title": "app", "version": "1.0"}, "paths": paths}
        gateway = cls.client("apigateway")
        gateway.put_rest_api(restApiId=made.ref, mode="overwrite", body=json.dumps(document).encode())
        resources = gateway.get_resources(restApiId=made.ref)["items"]
        return Made(made.ref, {"RootResourceId": next(each["id"] for each in resources if each["path"] == "/")})

    def delete(self, _account: str, _region: str) -> None:
        self.client("apigateway").delete_rest_api(restApiId=self._made.ref)


class ApiAccount(Noted):
    """The role with which API Gateway writes logs. The account has one, and keeps it when the stack is gone."""

    @classmethod
    def make(cls, name: str, properties: Properties) -> Made:
        change = {"op": "replace", "path": "/cloudwatchRoleArn", "value": properties["CloudWatchRoleArn"]}
        cls.client("apigateway").update_account(patchOperations=[change])
        return Made(name)


MODELS = {
    "AWS::ApiGateway::Account": ApiAccount,
    "AWS::S3::Bucket": Bucket,
    "AWS::SecretsManager::Secret": Secret,
    "AWS::CloudWatch::Alarm": Alarm,
    "AWS::ApiGateway::RestApi": Api,
}
NOTED = (
    *("AWS::ApiGateway::Deployment", "AWS::ApiGateway::Stage", "AWS::Budgets::Budget"),
    *("AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission", "AWS::S3::BucketPolicy", "AWS::SNS::Subscription"),
    *("AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::EC2::VPCEndpoint", "AWS::EC2::SecurityGroup"),
)


def install(clients: Clients) -> Callable[[str], bool]:
    """Give moto's CloudFormation our models. Return a predicate: whether it can make a resource of a type."""
    Noted.connect[:] = [clients]
    engine.install()
    known: dict[str, Any] = parsing.get_model_map()
    known |= MODELS
    known |= dict.fromkeys(NOTED, Noted)
    return known.__contains__
