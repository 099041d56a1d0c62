"""Test the account around the app: quotas, tags, stacks that fail, and services that do not exist here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from infrastructure.account.cost_tags import activate_tags
from localcloud.common.faults import FaultFile
from localcloud.s3.keeper import S3Keeper
from localcloud.server.fronts import make_fronts
from localcloud.server.origin import Origin, Router, make_moto
from tests.localcloud.hosting import KEYS, client, forget_buckets, make_guard, no_sagemaker, serve

Body = dict[str, Any]
JOB = "arn:aws:sagemaker:us-east-1:123456789012:training-job/dogs"
ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dogs"
TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}


@dataclass
class Account:
    """A running AWS origin, with SageMaker's tagged resources."""

    home: Path
    url: str = ""
    tagged: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def client(self, service: str) -> Any:
        return client(service, self.url)

    def set_quotas(self, **quotas: int) -> None:
        (self.home / "faults.json").write_text(
            json.dumps({"quotas": {k.replace("_", " "): v for k, v in quotas.items()}})
        )

    def plan(self, name: str, kind: str, resources: Body, **told: Any) -> str:
        """Create a change set and return its id."""
        body = json.dumps({"Resources": resources})
        made = self.client("cloudformation").create_change_set(
            StackName=name, ChangeSetName=f"{name}-{kind.lower()}", ChangeSetType=kind, TemplateBody=body, **told
        )
        return str(made["Id"])

    def apply(self, name: str, kind: str, resources: Body, **told: Any) -> str:
        """Create and execute a change set, and return the stack's status afterwards."""
        cloudformation = self.client("cloudformation")
        cloudformation.execute_change_set(ChangeSetName=self.plan(name, kind, resources, **told))
        return str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])

    def list_failures(self, name: str) -> list[tuple[str, str]]:
        """List (logical name, reason) of the stack's failed resources."""
        events = self.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
        failed = [each for each in events if each["ResourceStatus"] == "CREATE_FAILED"]
        return [(each["LogicalResourceId"], each["ResourceStatusReason"]) for each in failed]

    def list_queues(self, prefix: str) -> list[str]:
        return [
            url.rpartition("/")[2]
            for url in self.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
        ]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    held = Account(tmp_path_factory.mktemp("account"))
    moto = make_moto()
    keeper = S3Keeper(moto, held.home / "s3", lambda *_event: None)
    fronts = make_fronts(moto, held.client, FaultFile(held.home / "faults.json"), lambda: held.tagged)
    origin = Origin(Router(moto, keeper, fronts=fronts), no_sagemaker, make_guard(held.home))
    with serve(origin) as held.url:
        yield held
    origin.close()
    keeper.close()
    forget_buckets()


def queue(name: str) -> Body:
    return {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}}


def role(name: str) -> Body:
    return {"Type": "AWS::IAM::Role", "Properties": {"RoleName": name, "AssumeRolePolicyDocument": TRUST}}


def bucket(name: Any) -> Body:
    return {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {"BucketName": name}}


def test_quotas_are_told_by_their_names(account: Account) -> None:
    """Quotas come page by page, each with a code; the deliberate faults override them."""
    account.set_quotas(**{"ml.g5.xlarge_for_spot_training_job_usage": 0})
    pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {each["QuotaName"]: each["Value"] for page in pages for each in page["Quotas"]}
    assert quotas["ml.g5.xlarge for spot training job usage"] == 0
    assert quotas["ml.g5.xlarge for training job usage"] >= 1
    assert "Maximum number of serverless endpoints" in quotas


def test_lambdas_limit_is_told_and_its_other_calls_go_through(account: Account) -> None:
    """The account allows 1,000 concurrent executions, or the number in the faults."""
    account.set_quotas(Concurrent_executions=10)
    functions = account.client("lambda")
    assert functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 10
    assert functions.list_functions()["Functions"] == []


def test_cost_allocation_tags_are_listed_late_as_on_aws(account: Account) -> None:
    """A first deployment cannot activate them, a second one does, and a third has nothing to do."""
    billing = account.client("ce")
    refused = billing.update_cost_allocation_tags_status(
        CostAllocationTagsStatus=[{"TagKey": "whippet:app", "Status": "Active"}]
    )
    assert [each["TagKey"] for each in refused["Errors"]] == ["whippet:app"]
    assert "deploy again tomorrow" in activate_tags(billing)[0]
    assert activate_tags(billing)[0].startswith("Activated the cost-allocation tags whippet:app, whippet:stage")
    assert activate_tags(billing) == []


@pytest.mark.parametrize(
    ("service", "operation", "told", "words"),
    [
        ("pricing", "get_products", {"ServiceCode": "AmazonSageMaker"}, "The local cloud has no service 'pricing'"),
        (
            "service-quotas",
            "request_service_quota_increase",
            {"ServiceCode": "sagemaker", "QuotaCode": "L-1", "DesiredValue": 1},
            "write the number into faults.json",
        ),
    ],
    ids=["pricing", "quotas"],
)
def test_what_is_not_here_is_refused_by_name(
    account: Account, service: str, operation: str, told: Body, words: str
) -> None:
    """The refusal comes once, is not retried, and never looks like an answer."""
    with pytest.raises(ClientError, match=words):
        getattr(account.client(service), operation)(**told)


def test_tags_tell_of_sagemakers_things_too(account: Account) -> None:
    """SageMaker's resources are listed beside moto's, by the same filters."""
    account.client("sqs").create_queue(QueueName="tagged", tags={"stage": "dev"})
    account.tagged[:] = [(JOB, {"stage": "dev"}), (ENDPOINT, {"stage": "prod", "team": "a"}), (f"{JOB}-2", {})]

    def find(**told: Any) -> set[str]:
        found = account.client("resourcegroupstaggingapi").get_resources(**told)["ResourceTagMappingList"]
        return {each["ResourceARN"] for each in found}

    assert find(TagFilters=[{"Key": "stage", "Values": ["dev"]}]) == {JOB, "arn:aws:sqs:us-east-1:123456789012:tagged"}
    assert find(TagFilters=[{"Key": "team"}]) == {ENDPOINT}
    assert find(ResourceTypeFilters=["sagemaker:training-job"]) == {JOB}
    assert find(ResourceTypeFilters=["sagemaker"]) == {JOB, ENDPOINT}
    assert find(ResourceARNList=[ENDPOINT]) == {ENDPOINT}


def test_a_stack_whose_creation_fails_leaves_nothing(account: Account) -> None:
    """The events say which resource failed and why, and what was created before is gone."""
    account.client("iam").create_role(RoleName="taken", AssumeRolePolicyDocument="{}")
    resources = {"First": queue("first-queue"), "Second": role("taken") | {"DependsOn": "First"}}
    assert account.apply("failing", "CREATE", resources) == "ROLLBACK_COMPLETE"
    ((logical, reason),) = account.list_failures("failing")
    assert (logical, "already exists" in reason) == ("Second", True)
    assert account.list_queues("first-queue") == []


def test_a_stack_whose_update_fails_is_as_it_was(account: Account) -> None:
    """What the update created is gone, what it removed exists again, and the template is the previous one."""
    iam = account.client("iam")
    iam.create_role(RoleName="taken-too", AssumeRolePolicyDocument="{}")
    assert account.apply("changing", "CREATE", {"Old": queue("old-queue"), "Own": role("own")}) == "CREATE_COMPLETE"
    new = {"New": queue("new-queue"), "Own": role("own"), "Taken": role("taken-too")}
    assert account.apply("changing", "UPDATE", new) == "UPDATE_ROLLBACK_COMPLETE"
    assert account.list_failures("changing")[0][0] == "Taken"
    assert account.list_queues("old-queue") == ["old-queue"]
    assert account.list_queues("new-queue") == []
    account.client("cloudformation").delete_stack(StackName="changing")
    assert account.list_queues("old-queue") == []


def test_a_bucket_is_taken_in_where_its_name_is_written_out(account: Account) -> None:
    """An import finds only names that are plain text; otherwise the bucket exists already."""
    account.client("s3").create_bucket(Bucket="kept-data")
    assert account.apply("plain", "CREATE", {"Bucket": bucket("kept-data")}) == "ROLLBACK_COMPLETE"
    made = {"Bucket": bucket({"Fn::Join": ["-", ["kept", "data"]]})}
    assert account.apply("made", "CREATE", made, ImportExistingResources=True) == "ROLLBACK_COMPLETE"
    told = {"Bucket": bucket("kept-data")}
    assert account.apply("importing", "CREATE", told, ImportExistingResources=True) == "CREATE_COMPLETE"


def test_a_stack_elsewhere_is_refused(account: Account) -> None:
    """A stack's resources would be created in the only region there is."""
    elsewhere = boto3.client(
        "cloudformation",
        endpoint_url=account.url,
        region_name="eu-west-1",
        aws_access_key_id=KEYS.access_key_id,
        aws_secret_access_key=KEYS.secret_access_key,
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(ClientError, match="The local cloud has one region, us-east-1"):
        elsewhere.create_stack(StackName="x", TemplateBody=json.dumps({"Resources": {"Q": queue("q")}}))


def test_a_resource_that_nothing_makes_is_refused(account: Account) -> None:
    """The refusal names the type, before anything is created."""
    with pytest.raises(ClientError, match="The local cloud's stacks make no AWS::Moon::Base"):
        account.plan("moon", "CREATE", {"Base": {"Type": "AWS::Moon::Base"}})
