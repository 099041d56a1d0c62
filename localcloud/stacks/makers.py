"""Make the resources of a template, one function for each type, through the services' APIs.

Types without a meaning on one machine are skipped by name (`NOT_HERE`). A function or an API is not a resource of a
service here: the cloud hosts both itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.stacks.intrinsics import Properties

ACCOUNT = "123456789012"
Clients = Callable[[str], Any]
NOT_HERE = {
    "AWS::Lambda::Permission",  # the cloud calls the functions itself
    "AWS::CloudWatch::Alarm",  # moto never evaluates one
    "AWS::CloudWatch::Dashboard",  # nothing would draw it
    "AWS::Logs::LogGroup",  # made when the first line is written
    "AWS::ApiGateway::Account",  # the gateway writes no access log
    "AWS::Budgets::Budget",  # nothing costs anything
    "AWS::EC2::SecurityGroup",  # there is no network between two processes
    "AWS::EC2::VPCEndpoint",
    "AWS::SNS::Subscription",  # no mail is sent
    "AWS::Events::EventBusPolicy",  # these require TLS and admit services, all of which are in this process
    "AWS::SNS::TopicPolicy",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
}


@dataclass(frozen=True)
class Made:
    """A resource that exists: the value of `Ref`, and the values of `Fn::GetAtt` by attribute."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


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
    if rules:  # set them even where the bucket existed before it had rules
        s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [read_cors_rule(rule) for rule in rules]})
    return Made(name, {"Arn": f"arn:aws:s3:::{name}"})


def read_cors_rule(rule: Properties) -> Properties:
    """Return a CloudFormation CORS rule as S3's API spells it."""
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
    text = generate_secret(properties.get("GenerateSecretString")) or properties.get("SecretString", "{}")
    client, name = clients("secretsmanager"), properties.get("Name", unnamed)
    try:
        answer = client.create_secret(Name=name, SecretString=text)
    except client.exceptions.ResourceExistsException:
        answer = client.describe_secret(SecretId=name)
    return Made(answer["ARN"], {"Id": answer["ARN"]})


def generate_secret(told: Properties | None) -> str:
    """Generate the secret that `GenerateSecretString` describes, a new one at each call; empty where it is absent."""
    if told is None:
        return ""
    new = secrets.token_hex(told.get("PasswordLength", 32))[: told.get("PasswordLength", 32)]
    if "GenerateStringKey" not in told:
        return new
    return json.dumps(json.loads(told["SecretStringTemplate"]) | {told["GenerateStringKey"]: new})


def make_role(clients: Clients, unnamed: str, properties: Properties) -> Made:
    """Create a role with its inline policies, against which the role's requests are checked."""
    iam, name = clients("iam"), properties.get("RoleName", unnamed)[:64]
    trust = json.dumps(properties["AssumeRolePolicyDocument"])
    try:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
    except iam.exceptions.EntityAlreadyExistsException:
        role = iam.get_role(RoleName=name)["Role"]
    for policy in properties.get("Policies", []):
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
    return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})


def make_function(_clients: Clients, unnamed: str, properties: Properties) -> Made:
    """Name a function after its Python function, as `chalice deploy` does; the API's function is Chalice's `app`."""
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
    "AWS::IAM::Role": make_role,
    "AWS::Serverless::Function": make_function,
    "AWS::Serverless::Api": make_api,
}
