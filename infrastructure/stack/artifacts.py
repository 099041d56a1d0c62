"""Keep what a deployment needs on AWS outside the stack: the functions' archive, the template, and the orders.

They lie in a small bucket of the stage's own, APP-STAGE-artifacts-ACCOUNT-REGION, created here and removed by
`destroy`. The stack's own bucket cannot hold them: a stack's functions need their code before the stack has created its
bucket, and CloudFormation accepts a template of this size only from a bucket. The alternative would be a first stack
that contains only the bucket, with which every later template would have to be merged. A new deployment removes
nothing, because a rollback needs the earlier code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infrastructure.account.context import Stage, explained, read_code
from infrastructure.errors import CannotDeploy

ORDERS = "orders.json"


def make_artifacts_bucket(stage: Stage, tags: Mapping[str, str]) -> None:
    """Create the bucket if needed, check that it is this account's, and make it private and TLS-only."""
    s3, name = stage.account.clients("s3"), stage.artifacts
    with explained(f"Making the bucket {name}"):
        if not has_bucket(s3, name, stage.account.number):
            place = {"LocationConstraint": stage.account.region}
            told: dict[str, Any] = {} if stage.account.region == "us-east-1" else {"CreateBucketConfiguration": place}
            s3.create_bucket(Bucket=name, **told)
        blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(forbid_plain_http(name)))
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in tags.items()]})


def has_bucket(s3: Any, name: str, owner: str) -> bool:
    """Return whether the account has a bucket. Raises CannotDeploy if another account owns it."""
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=name, ExpectedBucketOwner=owner)
    except ClientError as error:
        if read_code(error) in ("404", "NoSuchBucket"):
            return False
        if read_code(error) == "403":
            raise CannotDeploy(
                f"The bucket {name} is not this account's, or may not be looked at. Deploy under another APP or STAGE."
            ) from error
        raise
    return True


def forbid_plain_http(bucket: str) -> dict[str, Any]:
    """Return a bucket policy that allows TLS only."""
    arn = f"arn:aws:s3:::{bucket}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return {
        "Version": "2012-10-17",
        "Statement": [statement | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}],
    }


def read_orders(stage: Stage) -> dict[str, str]:
    """Return the parameters that were ordered for the stage so far.

    The stack cannot tell them from those that were chosen because of a quota, which are chosen again each time.
    """
    from botocore.exceptions import ClientError

    s3 = stage.account.clients("s3")
    with explained(f"Reading the orders in {stage.artifacts}"):
        if not has_bucket(s3, stage.artifacts, stage.account.number):
            return {}
        try:
            return dict(json.loads(s3.get_object(Bucket=stage.artifacts, Key=ORDERS)["Body"].read()))
        except ClientError as error:
            if read_code(error) in ("NoSuchKey", "404"):
                return {}
            raise


def keep_orders(stage: Stage, ordered: Mapping[str, str]) -> None:
    """Keep the orders for the next deployment."""
    with explained(f"Keeping the orders in {stage.artifacts}"):
        stage.account.clients("s3").put_object(Bucket=stage.artifacts, Key=ORDERS, Body=json.dumps(ordered).encode())


def upload(s3: Any, bucket: str, key: str, path: Path) -> bool:
    """Upload a file that is named by its content, unless it is there already. Returns whether it was sent."""
    with explained(f"Uploading {path.name} to {bucket}"):
        if _has_object(s3, bucket, key, path.stat().st_size):
            return False
        s3.upload_file(str(path), bucket, key)
    return True


def _has_object(s3: Any, bucket: str, key: str, size: int) -> bool:
    from botocore.exceptions import ClientError

    try:
        return bool(s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == size)
    except ClientError as error:
        if read_code(error) in ("404", "NoSuchKey", "403"):
            return False
        raise
