"""Test the stack that CloudFormation makes: what each function, queue and bucket has, and that names are unique."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localcloud.stacks.intrinsics import Resolver
from tests.support.template import Template, build_app_template, list_resources, translate_app_template

LONGEST_REGION = "ap-southeast-1"
EVENT_FUNCTIONS = ["OnDatasetUploaded", "OnEndpointChanged", "OnTrainingJobChanged", "OnTuningJobChanged", "Sweep"]
# The members in which a resource says its own name; elsewhere `FunctionName` and the like name others.
NAMES = {
    "AWS::ApiGateway::RestApi": "Name",
    "AWS::Budgets::Budget": "Budget.BudgetName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::EC2::SecurityGroup": "GroupName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SecretsManager::Secret": "Name",
}
GIVEN = {
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
    "SubnetIds": "subnet-1,subnet-2",
    "SecurityGroupIds": "sg-1,sg-2",
    "VpcId": "vpc-1",
    "RouteTableIds": "rtb-1,rtb-2",
    "CreateVpcEndpoints": "true",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
    "AlarmEmail": "a@example.org",
    "ReservedConcurrency": "2",
    "ApiConcurrency": "20",
}


def settle(template: Template, **parameters: str) -> Template:
    """Return the resources that these parameters give; a reference to a resource is its logical name in brackets."""
    defaults = {name: str(told.get("Default", "")) for name, told in template["Parameters"].items()}
    pseudo = {"AWS::AccountId": "123456789012", "AWS::Region": LONGEST_REGION, "AWS::Partition": "aws"}
    resolver = Resolver(
        {**defaults, **pseudo, "AWS::URLSuffix": "amazonaws.com", **parameters},
        template["Conditions"],
        lambda name: f"<{name}>",
        lambda name, attribute: f"<{name}.{attribute}>",
    )
    resources: Template = {
        logical: {**body, "Properties": resolver.resolve(body.get("Properties", {}))}
        for logical, body in template["Resources"].items()
        if "Condition" not in body or resolver.holds(body["Condition"])
    }
    return resources


def collect_names(resources: Template) -> set[tuple[str, str]]:
    """Return (type, name) of every resource with a name of its own."""
    found = set()
    for body in resources.values():
        value: Any = body["Properties"]
        for member in NAMES.get(body["Type"], "").split("."):
            value = value.get(member) if isinstance(value, dict) and member else None
        if isinstance(value, str):
            found.add((body["Type"], value))
    return found


@pytest.fixture(scope="module")
def plain() -> Template:
    """Return the resources of a stack with defaults only."""
    return settle(translate_app_template())


@pytest.fixture(scope="module")
def full() -> Template:
    """Return the resources of a stack with every optional parameter."""
    return settle(translate_app_template(), **GIVEN)


def of_type(resources: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {name: body["Properties"] for name, body in resources.items() if body["Type"] == kind}


def test_the_linter_of_cloudformation_finds_nothing(tmp_path: Path) -> None:
    """The published template has neither errors nor warnings."""
    (tmp_path / "template.json").write_text(json.dumps(build_app_template()))
    linter = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([linter, str(tmp_path / "template.json")], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_stages_and_apps_live_beside_each_other() -> None:
    """No two stacks share a name in one account and region; each name has the app and the stage."""
    template = translate_app_template()
    stacks = [("whippet", "dev"), ("whippet", "prod"), ("greyhound", "dev")]
    names = [collect_names(settle(template, AppName=app, StageName=stage, **GIVEN)) for app, stage in stacks]
    assert {kind for kind, _ in names[0]} == set(NAMES)
    assert len(set.union(*names)) == sum(map(len, names))
    for (app, stage), found in zip(stacks, names, strict=True):
        assert [name for _, name in found if f"{app}-{stage}" not in name] == []


def test_names_are_not_too_long() -> None:
    """Names fit even with the longest app, stage and region."""
    names = collect_names(settle(translate_app_template(), AppName="a" * 15, StageName="b" * 5, **GIVEN))
    limits = {"AWS::IAM::Role": 64, "AWS::Lambda::Function": 64, "AWS::Events::Rule": 64, "AWS::S3::Bucket": 63}
    assert [(kind, name) for kind, name in names if len(name) > limits.get(kind, 80)] == []


def test_rules_try_again_and_keep_what_they_cannot_deliver(plain: Template) -> None:
    """Each rule has its own queue, which accepts only its events and has an alarm."""
    rules = of_type(plain, "AWS::Events::Rule")
    targets = {rule["Name"]: rule["Targets"][0] for rule in rules.values()}
    queues = [target["DeadLetterConfig"]["Arn"] for target in targets.values()]
    assert len(rules) == len(set(queues)) == 5
    assert all(target["RetryPolicy"]["MaximumRetryAttempts"] > 0 for target in targets.values())
    policies = {policy["Queues"][0]: policy for policy in of_type(plain, "AWS::SQS::QueuePolicy").values()}
    for name, target in targets.items():
        queue = target["DeadLetterConfig"]["Arn"].partition(".")[0] + ">"
        allowed = [each for each in policies[queue]["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
        assert [each["Condition"]["ArnEquals"]["aws:SourceArn"].rpartition("/")[2] for each in allowed] == [name]


def test_rules_hear_of_their_own_stage_alone(plain: Template) -> None:
    """They match by the bucket and by the names of SageMaker's jobs, which begin with app and stage."""
    patterns = [rule["EventPattern"] for rule in of_type(plain, "AWS::Events::Rule").values() if "EventPattern" in rule]
    details = [json.dumps(pattern["detail"]) for pattern in patterns]
    assert len(details) == 4
    assert all("whippet-dev-" in detail or '"name": ["<Bucket>"]' in detail for detail in details)


def test_every_queue_of_lost_events_and_every_function_has_an_alarm(plain: Template) -> None:
    """Each alarm notifies the alarms' topic."""
    alarms = list(of_type(plain, "AWS::CloudWatch::Alarm").values())
    watched = {each["Dimensions"][0]["Value"] for each in alarms if each.get("Namespace") in ("AWS/SQS", "AWS/Lambda")}
    functions = {f"<{name}>" for name in of_type(plain, "AWS::Lambda::Function")}
    queues = {f"<{name}.QueueName>" for name in of_type(plain, "AWS::SQS::Queue")}
    assert watched == functions | queues
    assert all(alarm["AlarmActions"] == ["<Alarms>"] for alarm in alarms)


def test_what_the_stack_watches_beside_its_functions(plain: Template) -> None:
    """Endpoint names are not known at deploy time, so alarms select by the variant, which has the stage's name."""
    alarms = of_type(plain, "AWS::CloudWatch::Alarm")
    asked = [alarms[name]["Metrics"][0]["Expression"] for name in ("EndpointServerErrors", "EndpointLatency")]
    assert all("WHERE VariantName = 'whippet-dev'" in expression for expression in asked)
    assert alarms["TuningFailures"]["Dimensions"] == [{"Name": "service", "Value": "whippet-dev"}]


def test_every_function_has_a_log_that_ends(plain: Template) -> None:
    """The API's access log has a retention too."""
    logs = of_type(plain, "AWS::Logs::LogGroup")
    used = {f["LoggingConfig"]["LogGroup"] for f in of_type(plain, "AWS::Lambda::Function").values()}
    assert used == {f"<{name}>" for name in logs if name != "ApiLog"}
    assert {log["RetentionInDays"] for log in logs.values()} == {"30"}


def test_every_function_has_a_role_of_its_own(plain: Template) -> None:
    """No two functions share a role, the API's included."""
    roles = [function["Role"] for function in of_type(plain, "AWS::Lambda::Function").values()]
    assert len(set(roles)) == len(roles) == 6


def test_the_api_is_throttled_traced_and_logged(plain: Template) -> None:
    """This holds for its only stage."""
    (stage,) = of_type(plain, "AWS::ApiGateway::Stage").values()
    (method,) = stage["MethodSettings"]
    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(method)
    assert stage["TracingEnabled"] is True
    assert stage["AccessLogSetting"]["DestinationArn"] == "<ApiLog.Arn>"


def test_the_token_is_generated_in_the_form_that_the_app_reads(plain: Template) -> None:
    """Nobody chooses the token, and the template does not contain it."""
    (secret,) = of_type(plain, "AWS::SecretsManager::Secret").values()
    told = secret["GenerateSecretString"]
    assert json.loads(told["SecretStringTemplate"]) == {"tokens": {}}
    assert told["GenerateStringKey"] == "default_token"
    assert "SecretString" not in secret


def test_the_bucket_is_closed_kept_and_swept(plain: Template) -> None:
    """Versioned, encrypted, TLS only, not public, with events; old versions of run folders expire."""
    bucket, policy = plain["Bucket"]["Properties"], plain["BucketPolicy"]["Properties"]
    assert plain["Bucket"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["NotificationConfiguration"]["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}
    assert policy["PolicyDocument"]["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    days = {
        rule["Prefix"]: rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in bucket["LifecycleConfiguration"]["Rules"]
        if "NoncurrentVersionExpiration" in rule
    }
    assert days["runs/"] == 7
    assert "datasets/" not in days


def test_nothing_is_made_that_was_not_asked_for(plain: Template) -> None:
    """By default there is no network, mail, boundary or reservation, and AWS's own keys encrypt."""
    kinds = {body["Type"] for body in plain.values()}
    assert kinds & {"AWS::EC2::VPCEndpoint", "AWS::EC2::SecurityGroup", "AWS::SNS::Subscription"} == set()
    functions = of_type(plain, "AWS::Lambda::Function").values()
    assert {"VpcConfig", "ReservedConcurrentExecutions", "KmsKeyArn"} & {
        key for each in functions for key in each
    } == set()
    assert not any("PermissionsBoundary" in role for role in of_type(plain, "AWS::IAM::Role").values())


def test_without_a_cap_there_is_no_budget() -> None:
    """A budget of 0 dollars would alarm at once."""
    template = translate_app_template()
    assert "Budget" in settle(template)
    assert "Budget" not in settle(template, MonthlyCapUsd="0")


def test_a_key_encrypts_all_that_rests(full: Template) -> None:
    """It encrypts bucket, topics, queues, secret, logs and the functions' variables."""
    key = GIVEN["KmsKeyArn"]
    members = {"Topic": "KmsMasterKeyId", "Queue": "KmsMasterKeyId", "Secret": "KmsKeyId", "LogGroup": "KmsKeyId"}
    for kind, member in {**members, "Function": "KmsKeyArn"}.items():
        found = [body["Properties"].get(member) for body in full.values() if body["Type"].endswith(f"::{kind}")]
        assert set(found) == {key}, kind
    rules = full["Bucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert [rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] for rule in rules] == [key]


def test_a_vpc_holds_the_functions_and_leads_to_every_service(full: Template) -> None:
    """S3 is reached by the route tables, other services by interfaces that the functions' group may use."""
    endpoints = of_type(full, "AWS::EC2::VPCEndpoint").values()
    services = {one["ServiceName"].partition(f"{LONGEST_REGION}.")[2]: one for one in endpoints}
    assert {"s3", "sagemaker.api", "sagemaker.runtime", "logs", "events", "sns", "secretsmanager"} <= set(services)
    assert services["s3"]["RouteTableIds"] == ["rtb-1", "rtb-2"]
    assert services["sns"]["SubnetIds"] == ["subnet-1", "subnet-2"]
    for function in of_type(full, "AWS::Lambda::Function").values():
        assert function["VpcConfig"]["SubnetIds"] == ["subnet-1", "subnet-2"]
        assert function["VpcConfig"]["SecurityGroupIds"] == ["sg-1", "sg-2"]


def test_a_boundary_bounds_every_role(full: Template) -> None:
    """This holds for Chalice's roles and ours."""
    roles = of_type(full, "AWS::IAM::Role")
    assert len(roles) == 8
    assert {role.get("PermissionsBoundary") for role in roles.values()} == {GIVEN["PermissionsBoundaryArn"]}


def test_concurrency_is_reserved_as_it_is_ordered(full: Template) -> None:
    """Event functions share one number, the routes have their own: predictions cannot starve runs."""
    functions = of_type(full, "AWS::Lambda::Function")
    reserved = {name: one["ReservedConcurrentExecutions"] for name, one in functions.items()}
    assert reserved == dict.fromkeys(EVENT_FUNCTIONS, "2") | {"APIHandler": "20"}


@pytest.mark.parametrize(
    ("kind", "status", "retry"), [("INTEGRATION_FAILURE", 503, 5), ("DEFAULT_5XX", 503, 5), ("THROTTLED", 429, 1)]
)
def test_what_api_gateway_answers_by_itself_has_our_form(plain: Template, kind: str, status: int, retry: int) -> None:
    """By default a busy function gives 500 "Internal server error", and callers cannot know that they may retry."""
    (api,) = of_type(plain, "AWS::ApiGateway::RestApi").values()
    response = api["Body"]["x-amazon-apigateway-gateway-responses"][kind]
    assert response["statusCode"] in (status, str(status))
    assert response["responseParameters"] == {"gatewayresponse.header.Retry-After": f"'{retry}'"}
    error = json.loads(response["responseTemplates"]["application/json"])["error"]
    assert set(error) == {"code", "message"}
    assert "Retry-After" in error["message"]


def test_topics_take_nothing_unencrypted(full: Template) -> None:
    """An address that was given is subscribed to both."""
    policies = of_type(full, "AWS::SNS::TopicPolicy").values()
    closed = {
        policy["Topics"][0]
        for policy in policies
        for each in policy["PolicyDocument"]["Statement"]
        if each["Effect"] == "Deny"
    }
    assert closed == {"<Topic>", "<Alarms>"}
    assert {mail["Endpoint"] for mail in of_type(full, "AWS::SNS::Subscription").values()} == {GIVEN["AlarmEmail"]}


def test_the_dashboard_is_one_that_cloudwatch_reads(plain: Template) -> None:
    """Its body is JSON without placeholders, and each widget lies within 24 columns."""
    body = json.loads(plain["Dashboard"]["Properties"]["DashboardBody"])
    assert "${" not in json.dumps(body)
    assert all(widget["x"] + widget["width"] <= 24 for widget in body["widgets"])


def test_every_suppression_has_its_reason() -> None:
    """The reason is in the metadata of the suppressed resource."""
    template = build_app_template()
    metadata = [body.get("Metadata", {}) for body in [template, *template["Resources"].values()]]
    skipped = [each for one in metadata for each in one.get("checkov", {}).get("skip", [])]
    assert skipped
    assert all(len(each["comment"]) > 30 for each in skipped)
    for one in metadata:
        ignored = one.get("cfn-lint", {}).get("config", {}).get("ignore_checks", [])
        assert set(ignored) == {code for codes in one.get("reasons", {}) for code in codes.split(", ")}


def test_a_function_has_one_rule() -> None:
    """The rule has the function's name, so there cannot be a second one."""
    functions = list_resources(build_app_template(), "AWS::Serverless::Function").values()
    assert all(len(one["Properties"].get("Events", {})) <= 1 for one in functions)


def test_functions_of_events_know_where_the_page_is() -> None:
    """They write the reports, which link back to it: to the stack's own URL, or to the domain that it was given."""
    template = translate_app_template()
    for given, wanted in (
        ("", f"https://<RestAPI>.execute-api.{LONGEST_REGION}.amazonaws.com/api/"),
        ("https://whippet.example.org/", "https://whippet.example.org/"),
    ):
        functions = of_type(settle(template, PageUrl=given), "AWS::Lambda::Function")
        told = {name: functions[name]["Environment"]["Variables"]["PAGE_URL"] for name in EVENT_FUNCTIONS}
        assert set(told.values()) == {wanted}
