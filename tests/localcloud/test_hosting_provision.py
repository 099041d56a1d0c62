"""Templates become resources: references resolved, types known or refused, safe to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infrastructure.template import RESOURCES, read_resources
from localcloud.provision import Clients, TemplateError, provision
from tests.localcloud.hosting import aws, client


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    with aws(tmp_path, []) as url:
        yield cache(lambda service: client(service, url))


def make_template(**resources: Any) -> dict[str, Any]:
    return {"Parameters": {"Name": {"Type": "String", "Default": "given"}}, "Resources": resources}


def resolve(clients: Clients, value: Any) -> Any:
    """The value as an output of a template with a topic."""
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
    ],
)
def test_intrinsic_functions(clients: Clients, value: Any, resolved: str) -> None:
    """Those that the app's template uses."""
    assert resolve(clients, value) == resolved


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"Ref": "Missing"}, "Missing"),
        ({"Fn::GetAtt": ["Topic", "Colour"]}, "Colour"),
        ({"Fn::Select": [0, ["a"]]}, "Fn::Select"),
    ],
)
def test_what_cannot_be_resolved_is_named(clients: Clients, value: Any, complaint: str) -> None:
    """The message holds the word that is wrong."""
    with pytest.raises(TemplateError, match=complaint):
        resolve(clients, value)


def test_an_unknown_type_is_refused_by_name(clients: Clients) -> None:
    """Neither ignored nor built halfway."""
    with pytest.raises(TemplateError, match=r"Table is a AWS::DynamoDB::Table"):
        provision(make_template(Table={"Type": "AWS::DynamoDB::Table"}), {}, clients)


def test_what_means_nothing_here_is_passed_over(clients: Clients) -> None:
    """Permissions, alarms and dashboards."""
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


def test_a_functions_variables_are_resolved(clients: Clients) -> None:
    """The common ones and its own, which win; numbers become text."""
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
    """Each type in infrastructure/resources is one that the local cloud builds."""
    stack = provision(read_resources(RESOURCES), {"StageName": "local"}, clients)
    assert stack.outputs["BucketName"] == "whippet-local-123456789012-us-east-1"
