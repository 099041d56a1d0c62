"""Test that templates become resources: references resolved, types known or refused, safe to repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from localcloud.stacks.provisioning import Clients, TemplateError, provision
from tests.localcloud.hosting import aws, client
from tests.support.template import build_app_template


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    with aws(tmp_path, []) as url:
        yield cache(lambda service: client(service, url))


CONDITIONS = {
    "IsGiven": {"Fn::Equals": [{"Ref": "Name"}, "given"]},
    "IsEmpty": {"Fn::Not": [{"Condition": "IsGiven"}]},
    "Both": {"Fn::And": [{"Condition": "IsGiven"}, {"Condition": "IsEmpty"}]},
    "Either": {"Fn::Or": [{"Condition": "IsGiven"}, {"Condition": "IsEmpty"}]},
    "NoNumber": {"Fn::Equals": [{"Ref": "Number"}, "0"]},
}


def make_template(**resources: Any) -> dict[str, Any]:
    parameters = {"Name": {"Type": "String", "Default": "given"}, "Number": {"Type": "Number", "Default": 0}}
    return {"Parameters": parameters, "Conditions": CONDITIONS, "Resources": resources}


def resolve(clients: Clients, value: Any) -> Any:
    """Return the value as an output of a template with a topic."""
    template = make_template(Topic={"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "news"}})
    return provision(template | {"Outputs": {"It": {"Value": value}}}, {}, clients).outputs["It"]


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("plain", "plain"),
        ({"Ref": "Name"}, "given"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Ref": "Topic"}, "arn:aws:sns:us-east-1:123456789012:news"),
        ({"Fn::GetAtt": ["Topic", "TopicName"]}, "news"),
        ({"Fn::GetAtt": "Topic.TopicName"}, "news"),
        ({"Fn::Sub": "${Name}-${Topic.TopicName}-${AWS::AccountId}"}, "given-news-123456789012"),
        ({"Fn::Sub": ["${Here}-${Name}", {"Here": {"Ref": "Name"}}]}, "given-given"),
        ({"Fn::Join": ["/", ["a", {"Ref": "Name"}]]}, "a/given"),
        ({"Fn::Join": ["+", {"Fn::Split": [",", "a,b"]}]}, "a+b"),
        ({"Fn::Select": [1, {"Fn::Split": ["e", {"Ref": "Name"}]}]}, "n"),
        ({"Fn::If": ["IsGiven", {"Ref": "Name"}, "else"]}, "given"),
        ({"Fn::If": ["IsEmpty", "then", "else"]}, "else"),
        ({"Fn::If": ["Both", "then", "else"]}, "else"),
        ({"Fn::If": ["Either", "then", "else"]}, "then"),
        ({"Fn::Join": ["", ["a", {"Fn::If": ["IsEmpty", "b", {"Ref": "AWS::NoValue"}]}]]}, "a"),
    ],
)
def test_intrinsic_functions(clients: Clients, value: Any, resolved: str) -> None:
    """All functions that the app's template uses are resolved."""
    assert resolve(clients, value) == resolved


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"Ref": "Missing"}, "Missing"),
        ({"Fn::GetAtt": ["Topic", "Colour"]}, "Colour"),
        ({"Fn::Select": [1, ["a"]]}, "Fn::Select"),
        ({"Fn::Cidr": ["10.0.0.0/16", 1]}, "Fn::Cidr"),
        ({"Fn::If": ["Unheard", 1, 2]}, "Unheard"),
    ],
)
def test_what_cannot_be_resolved_is_named(clients: Clients, value: Any, complaint: str) -> None:
    """The message holds the wrong word."""
    with pytest.raises(TemplateError, match=complaint):
        resolve(clients, value)


def test_an_unknown_type_is_refused_by_name(clients: Clients) -> None:
    """It is neither ignored nor half built."""
    with pytest.raises(TemplateError, match=r"Table is a AWS::DynamoDB::Table"):
        provision(make_template(Table={"Type": "AWS::DynamoDB::Table"}), {}, clients)


def test_what_means_nothing_here_is_passed_over(clients: Clients) -> None:
    """Permissions, alarms and dashboards are skipped."""
    stack = provision(make_template(Alarm={"Type": "AWS::CloudWatch::Alarm"}), {}, clients)
    assert stack.functions == []


def test_a_bucket_that_is_there_is_kept(clients: Clients) -> None:
    """S3 is on disk: at the second start the bucket exists, with its objects."""
    properties = {"BucketName": "kept", "VersioningConfiguration": {"Status": "Enabled"}}
    template = make_template(Bucket={"Type": "AWS::S3::Bucket", "Properties": properties})
    provision(template, {}, clients)
    clients("s3").put_object(Bucket="kept", Key="k", Body=b"1")
    provision(template, {}, clients)
    assert clients("s3").get_object(Bucket="kept", Key="k")["Body"].read() == b"1"


def test_a_resource_is_made_only_where_its_condition_holds(clients: Clients) -> None:
    """A property without a value counts as absent: the topic gets a generated name."""
    name = {"Fn::If": ["NoNumber", {"Ref": "AWS::NoValue"}, "numbered"]}
    template = make_template(
        Topic={"Type": "AWS::SNS::Topic", "Condition": "IsGiven", "Properties": {"TopicName": name}},
        Other={"Type": "AWS::SNS::Topic", "Condition": "IsEmpty"},
    )
    provision(template, {}, clients)
    made = {topic["TopicArn"].rpartition(":")[2] for topic in clients("sns").list_topics()["Topics"]}
    assert "app-local-Topic" in made
    assert made & {"app-local-Other", "numbered"} == set()


def test_what_is_not_made_cannot_be_referred_to(clients: Clients) -> None:
    """The message names the resource and its condition."""
    template = make_template(Other={"Type": "AWS::SNS::Topic", "Condition": "IsEmpty"})
    with pytest.raises(TemplateError, match=r"Other, whose condition IsEmpty"):
        provision(template | {"Outputs": {"It": {"Value": {"Ref": "Other"}}}}, {}, clients)


def test_a_role_has_the_policies_of_the_template(clients: Clients) -> None:
    """They are resolved, without statements that have no value; the role's function knows its ARN."""
    arn = {"Fn::Sub": "arn:aws:s3:::${Name}"}
    statements = [{"Effect": "Allow", "Action": "s3:*", "Resource": arn}, {"Ref": "AWS::NoValue"}]
    policy = {"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}
    role = {"RoleName": "r", "AssumeRolePolicyDocument": {}, "Policies": [policy]}
    function = {"Handler": "app.f", "Role": {"Fn::GetAtt": ["Role", "Arn"]}}
    template = make_template(
        Role={"Type": "AWS::IAM::Role", "Properties": role},
        F={"Type": "AWS::Serverless::Function", "Properties": function},
    )
    (made,) = provision(template, {}, clients).functions
    kept = clients("iam").get_role_policy(RoleName="r", PolicyName="p")["PolicyDocument"]
    assert made.role.endswith(":role/r")
    assert kept["Statement"] == [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::given"}]


def test_a_secret_is_generated_where_it_is_asked_for(clients: Clients) -> None:
    """The secret is under its key in the given JSON and has the requested length."""
    told = {"SecretStringTemplate": '{"tokens": {}}', "GenerateStringKey": "default_token", "PasswordLength": 43}
    secret = {"Name": "tokens", "GenerateSecretString": told}
    provision(make_template(S={"Type": "AWS::SecretsManager::Secret", "Properties": secret}), {}, clients)
    made = json.loads(clients("secretsmanager").get_secret_value(SecretId="tokens")["SecretString"])
    assert made["tokens"] == {}
    assert len(made["default_token"]) == 43


def test_rules_have_the_names_and_patterns_of_the_template(clients: Clients) -> None:
    """Both are resolved: what is deployed is what is subscribed here."""
    events = {
        "Rule": {
            "Type": "CloudWatchEvent",
            "Properties": {"RuleName": {"Fn::Sub": "${Name}-rule"}, "Pattern": {"source": [{"Ref": "Name"}]}},
        },
        "Daily": {"Type": "Schedule", "Properties": {"Name": "daily", "Schedule": "rate(1 day)"}},
    }
    function = {"Handler": "app.f", "Events": events, "FunctionName": {"Fn::Sub": "${Name}-f"}}
    template = make_template(F={"Type": "AWS::Serverless::Function", "Properties": function})
    (made,) = provision(template, {}, clients).functions
    assert made.name == "given-f"
    assert made.patterns == {"given-rule": {"source": ["given"]}}
    assert made.schedules == {"daily": "rate(1 day)"}


def test_a_functions_variables_are_resolved(clients: Clients) -> None:
    """A function has the common variables and its own, which win; numbers become text."""
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "Handler": "app.f",
            "Timeout": 7,
            "Environment": {"Variables": {"OWN": {"Ref": "Name"}, "BOTH": "own"}},
            "Events": {"Daily": {"Type": "Schedule", "Properties": {"Schedule": "rate(1 day)"}}},
        },
    }
    common = {"Function": {"Environment": {"Variables": {"BOTH": "common", "COUNT": 3}}}}
    (made,) = provision(make_template(F=function) | {"Globals": common}, {}, clients).functions
    assert made.environment == {"OWN": "given", "BOTH": "own", "COUNT": "3"}
    assert (made.handler, made.timeout, made.schedules) == ("app.f", 7, {"app-local-f-Daily": "rate(1 day)"})


def test_the_projects_own_resources_are_known(clients: Clients) -> None:
    """The local cloud builds each type in the app's template, or skips it by name."""
    stack = provision(build_app_template(), {"StageName": "local"}, clients)
    roles = {role["Arn"] for role in clients("iam").list_roles()["Roles"]}
    assert {function.role for function in stack.functions} <= roles
    assert stack.outputs["BucketName"] == "whippet-local-123456789012-us-east-1"
    busy = stack.api_responses["INTEGRATION_FAILURE"]
    assert (busy["StatusCode"], busy["ResponseParameters"]["Headers"]) == (503, {"Retry-After": "'5'"})
    assert {function.reserved for function in stack.functions} == {None}


def test_reserved_calls_are_the_templates(clients: Clients) -> None:
    """Where a stage's parameter asks for some, and not where its condition says none."""
    stack = provision(build_app_template(), {"StageName": "local", "ApiConcurrency": "7"}, clients)
    assert [function.reserved for function in stack.functions if function.name == stack.api_function] == [7]
