"""Provide an AWS origin with a guard, and clients that have a role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from localcloud.iam.call_log import Recorded, read_calls
from localcloud.iam.identity import Identities
from localcloud.s3.keeper import S3Keeper
from localcloud.server.origin import Origin, Router, make_moto
from tests.localcloud.hosting import KEYS, client, forget_buckets, make_guard, no_sagemaker, serve

REGION = "us-east-1"
TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}


@dataclass
class Account:
    """A served account with one role, `worker`, whose policy each test writes."""

    url: str
    identities: Identities
    log: Path

    def admin(self, service: str) -> Any:
        return client(service, self.url)

    def allow(self, *statements: dict[str, Any]) -> None:
        """Allow the role this and nothing else."""
        document = json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]}
        )
        self.admin("iam").put_role_policy(RoleName="worker", PolicyName="it", PolicyDocument=document)

    def worker(self, service: str) -> Any:
        """Return a client with the role's credentials."""
        variables = self.identities.assume("arn:aws:iam::123456789012:role/worker", "at-work")
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=variables["AWS_SESSION_TOKEN"],
            config=Config(retries={"max_attempts": 0}, signature_version="s3v4" if service == "s3" else None),
        )

    def calls(self) -> list[Recorded]:
        return list(read_calls([self.log]))


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    moto, identities = make_moto(), Identities(REGION, KEYS)
    keeper = S3Keeper(moto, tmp_path / "s3", lambda *event: None)
    log = tmp_path / "calls.jsonl"
    origin = Origin(Router(moto, keeper), no_sagemaker, make_guard(tmp_path, identities))
    with serve(origin) as url:
        made = Account(url, identities, log)
        iam = made.admin("iam")
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(TRUST))
        made.admin("s3").create_bucket(Bucket="box")
        yield made
        for name in iam.list_role_policies(RoleName="worker")["PolicyNames"]:
            iam.delete_role_policy(RoleName="worker", PolicyName=name)
        iam.delete_role(RoleName="worker")
    origin.close()
    keeper.close()
    forget_buckets()
