"""Builds on the local cloud what the app's template asks for, through the services' APIs, as CloudFormation would.

moto's own CloudFormation takes three seconds for this template and fails on the API's inline body. Here each resource
type is one function. What has no meaning on one machine is passed over by name (`NOT_HERE`); any other type is refused.
Everything is safe to repeat: after a restart the buckets are there already, and the rest is made anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.intrinsics import NO_VALUE, Conditions, drop_absent

ACCOUNT = "123456789012"
Clients = Callable[[str], Any]
Properties = dict[str, Any]
FUNCTION, API, ROLE = "AWS::Serverless::Function", "AWS::Serverless::Api", "AWS::IAM::Role"
NOT_HERE = {
    "AWS::Lambda::Permission",  # nobody is refused here
    "AWS::CloudWatch::Alarm",  # moto never evaluates one
    "AWS::CloudWatch::Dashboard",  # nothing would draw it
    "AWS::Logs::LogGroup",  # made when the first line is written
    "AWS::Events::EventBusPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
}


class TemplateError(ValueError):
    """The template asks for something that the local cloud cannot build."""


@dataclass(frozen=True)
class Made:
    """A resource that exists: what `Ref` gives, and what `Fn::GetAtt` gives by attribute."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template. Times in seconds, memory in MB."""

    name: str
    handler: str
    environment: Mapping[str, str]
    timeout: int
    memory: int
    patterns: Mapping[str, Properties] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    retries: int = 2
    dead_letters: str = ""
    role: str = ""


@dataclass(frozen=True)
class Stack:
    """What was built: the functions, and the API's stage and OpenAPI body where there is one."""

    functions: list[Function]
    outputs: Mapping[str, str]
    api_stage: str = ""
    api_body: Properties = field(default_factory=dict)
    api_function: str = ""


def provision(
    template: Properties, parameters: Mapping[str, str], clients: Clients, region: str = "us-east-1"
) -> Stack:
    """Build a template's resources; `clients(service)` gives boto3 clients. Raises TemplateError, naming what fails."""
    return _Builder(template, parameters, clients, region).build()


class _Builder:
    """Builds each resource when it is first referred to, so that order in the template means nothing."""

    def __init__(self, template: Properties, parameters: Mapping[str, str], clients: Clients, region: str) -> None:
        self._resources: dict[str, Properties] = template["Resources"]
        self._globals: Properties = template.get("Globals", {}).get("Function", {})
        self._outputs: Properties = template.get("Outputs", {})
        self._clients, self._region = clients, region
        defaults = {name: str(body.get("Default", "")) for name, body in template.get("Parameters", {}).items()}
        pseudo = {"AWS::AccountId": ACCOUNT, "AWS::Region": region, "AWS::Partition": "aws"}
        self._values = defaults | dict(parameters) | pseudo | {"AWS::URLSuffix": "amazonaws.com"}
        self._prefix = f"{self._values.get('AppName', 'app')}-{self._values.get('StageName', 'local')}"
        self._conditions = Conditions(template.get("Conditions", {}), self.resolve)
        self._made: dict[str, Made] = {}

    def build(self) -> Stack:
        for name in self._resources:
            self._make(name)
        functions = {name: self._function(name) for name, body in self._resources.items() if body["Type"] == FUNCTION}
        apis = [body["Properties"] for body in self._resources.values() if body["Type"] == API]
        outputs = {name: str(self.resolve(body["Value"])) for name, body in self._outputs.items()}
        if not apis:
            return Stack(list(functions.values()), outputs)
        api = apis[0]
        return Stack(
            list(functions.values()), outputs, api["StageName"], api["DefinitionBody"], functions["APIHandler"].name
        )

    def resolve(self, value: Any) -> Any:
        """A value with its intrinsic functions replaced: Ref, Fn::GetAtt, Fn::If, Fn::Sub and Fn::Join."""
        if isinstance(value, list):
            return drop_absent([self.resolve(item) for item in value])
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (word, argument), *_ = value.items()
            if word == "Ref":
                return self._ref(argument)
            if word == "Fn::GetAtt":
                return self._attribute(*(argument if isinstance(argument, list) else argument.split(".", 1)))
            if word == "Fn::Sub":
                return self._substitute(argument)
            if word == "Fn::Join":
                return argument[0].join(str(self.resolve(item)) for item in argument[1])
            if word == "Fn::If":
                return self._conditions.choose(argument)
            if word.startswith("Fn::"):
                raise TemplateError(f"The local cloud does not know {word}, which the template uses.")
        return drop_absent({name: self.resolve(item) for name, item in value.items()})

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._values:
            return self._values[name]
        return self._make(name).ref

    def _attribute(self, name: str, attribute: str) -> str:
        made = self._make(name)
        if attribute not in made.attributes:
            raise TemplateError(f"{name} has no attribute {attribute!r} here; it has {', '.join(made.attributes)}.")
        return made.attributes[attribute]

    def _substitute(self, argument: Any) -> str:
        text, local = (argument, {}) if isinstance(argument, str) else argument

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in local:
                return str(self.resolve(local[name]))
            return self._attribute(*name.split(".", 1)) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([^!}]+)\}", replace, text)

    def _make(self, name: str) -> Made:
        if name not in self._resources:
            raise TemplateError(f"The template refers to {name}, and has no parameter or resource of that name.")
        if name not in self._made:
            body = self._resources[name]
            maker = MAKERS.get(body["Type"])
            if maker is None and body["Type"] not in NOT_HERE:
                raise TemplateError(f"{name} is a {body['Type']}, which the local cloud does not build.")
            unnamed = f"{self._prefix}-{name}"
            # a function's properties refer to others that refer back; they are resolved when all is built
            late = body["Type"] in (FUNCTION, API)
            properties = body.get("Properties", {}) if late else self.resolve(body.get("Properties", {}))
            self._made[name] = maker(self._clients, unnamed, properties) if maker else Made(unnamed)
        return self._made[name]

    def _function(self, logical: str) -> Function:
        properties = self._resources[logical]["Properties"]
        variables = self._globals.get("Environment", {}).get("Variables", {}) | properties.get("Environment", {}).get(
            "Variables", {}
        )
        events = properties.get("Events", {})
        name = self._made[logical].ref
        return Function(
            name=name,
            handler=properties["Handler"],
            environment={key: str(value) for key, value in self.resolve(variables).items()},
            timeout=properties.get("Timeout", self._globals.get("Timeout", 3)),
            memory=properties.get("MemorySize", self._globals.get("MemorySize", 128)),
            patterns={
                f"{name}-{rule}": event["Properties"]["Pattern"]
                for rule, event in events.items()
                if event["Type"] in ("CloudWatchEvent", "EventBridgeRule")
            },
            schedules={
                f"{name}-{rule}": event["Properties"]["Schedule"]
                for rule, event in events.items()
                if event["Type"] == "Schedule"
            },
            retries=properties.get("EventInvokeConfig", {}).get("MaximumRetryAttempts", 2),
            dead_letters=self.resolve(properties.get("DeadLetterQueue", {}).get("TargetArn", "")),
            role=self.resolve(properties.get("Role", "")),
        )


def make_bucket(clients: Clients, unnamed: str, properties: Properties) -> Made:
    s3, name = clients("s3"), properties.get("BucketName", unnamed.lower())
    if name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=name)
        status = properties.get("VersioningConfiguration", {}).get("Status")
        if status:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
        if "EventBridgeConfiguration" in properties.get("NotificationConfiguration", {}):
            configuration: Properties = {"EventBridgeConfiguration": {}}
            s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)
    rules = properties.get("CorsConfiguration", {}).get("CorsRules", [])
    if rules:  # also where the bucket was made before it had rules
        s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [read_cors_rule(rule) for rule in rules]})
    return Made(name, {"Arn": f"arn:aws:s3:::{name}"})


def read_cors_rule(rule: Properties) -> Properties:
    """A rule of CloudFormation's, as S3's API spells it."""
    names = {"Id": "ID", "MaxAge": "MaxAgeSeconds", "ExposedHeaders": "ExposeHeaders"}
    return {names.get(name, name): value for name, value in rule.items()}


def make_topic(clients: Clients, unnamed: str, properties: Properties) -> Made:
    arn = clients("sns").create_topic(Name=properties.get("TopicName", unnamed))["TopicArn"]
    return Made(arn, {"TopicArn": arn, "TopicName": arn.rpartition(":")[2]})


def make_queue(clients: Clients, unnamed: str, properties: Properties) -> Made:
    sqs, name = clients("sqs"), properties.get("QueueName", unnamed)
    retention = str(properties.get("MessageRetentionPeriod", 345_600))
    url = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": retention})["QueueUrl"]
    return Made(url, {"Arn": f"arn:aws:sqs:{sqs.meta.region_name}:{ACCOUNT}:{name}", "QueueName": name})


def make_secret(clients: Clients, unnamed: str, properties: Properties) -> Made:
    secrets = clients("secretsmanager")
    answer = secrets.create_secret(
        Name=properties.get("Name", unnamed), SecretString=properties.get("SecretString", "{}")
    )
    return Made(answer["ARN"], {"Id": answer["ARN"]})


def make_role(clients: Clients, unnamed: str, properties: Properties) -> Made:
    iam, name = clients("iam"), properties.get("RoleName", unnamed)[:64]
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]))[
        "Role"
    ]
    for policy in properties.get("Policies", []):
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
    return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})


def make_function(_clients: Clients, unnamed: str, properties: Properties) -> Made:
    """Named after the Python function, as `chalice deploy` does; the one behind the API is Chalice's `app` itself."""
    python_name = properties["Handler"].rpartition(".")[2]
    own_name = f"{unnamed.rpartition('-')[0]}-{'api' if python_name == 'app' else python_name}"
    name = properties.get("FunctionName", own_name)
    return Made(name, {"Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"})


def make_api(_clients: Clients, _unnamed: str, _properties: Properties) -> Made:
    return Made("local", {"RootResourceId": "root"})


MAKERS: dict[str, Callable[[Clients, str, Properties], Made]] = {
    "AWS::S3::Bucket": make_bucket,
    "AWS::SNS::Topic": make_topic,
    "AWS::SQS::Queue": make_queue,
    "AWS::SecretsManager::Secret": make_secret,
    ROLE: make_role,
    FUNCTION: make_function,
    API: make_api,
}
