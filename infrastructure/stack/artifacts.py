"""What a deployment keeps on AWS beside the stack: the functions' archive, the template, and what was ordered.

They lie in a small bucket of the stage's own, APP-STAGE-artifacts-ACCOUNT-REGION, made here and removed by `destroy`.
The stack's bucket cannot hold them: a stack's functions need their code before the stack has made its bucket, and a
template of this size may be handed to CloudFormation only from a bucket. The other way would be a first stack with
nothing in it but the bucket, which then is what every later template must be merged with. What is there is not removed
by a new deployment: a rollback needs the code of before.
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
    """Make the bucket, or see that it is this account's own: private, encrypted, with nothing but TLS."""
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
    """Whether the account has a bucket. Raises CannotDeploy where another account has it."""
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
    """A bucket policy that takes nothing but TLS."""
    arn = f"arn:aws:s3:::{bucket}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return {
        "Version": "2012-10-17",
        "Statement": [statement | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}],
    }


def read_orders(stage: Stage) -> dict[str, str]:
    """The parameters that were ordered for the stage until now. The stack does not tell them from those that were
    chosen for want of a quota, which are chosen anew each time."""
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
    """Keep them for the next deployment."""
    with explained(f"Keeping the orders in {stage.artifacts}"):
        stage.account.clients("s3").put_object(Bucket=stage.artifacts, Key=ORDERS, Body=json.dumps(ordered).encode())


def upload(s3: Any, bucket: str, key: str, path: Path) -> bool:
    """Put a file that is named by its content where it is not there yet. Returns whether it was sent."""
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
