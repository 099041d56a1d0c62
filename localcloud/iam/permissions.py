"""List the permissions that a call needs: IAM's actions and resources behind each operation that we use.

They follow AWS's Service Authorization Reference; a test compares every action and its kinds of resources with
cfn-lint's copy of it. An operation that is not listed counts as an action of its own name on all resources, so it must
be added before the app uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.iam.policies import Need
from localcloud.protocol.calls import Call

ACCOUNT = "123456789012"
FREE = {("sts", "GetCallerIdentity")}  # needs no permission
# IAM's name of a service where it differs from the signing name.
PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
# Kind of resource by the title in its member's name. A list or a search is not about one resource.
SAGEMAKER_KINDS = {
    "HyperParameterTuningJob": "hyper-parameter-tuning-job",
    "TrainingJob": "training-job",
    "Model": "model",
    "EndpointConfig": "endpoint-config",
    "Endpoint": "endpoint",
}
SAGEMAKER_VERBS = ("Create", "Describe", "Stop", "Delete", "Update")
PASSED_ROLES = {
    "CreateTrainingJob": ("RoleArn",),
    "CreateHyperParameterTuningJob": ("TrainingJobDefinition", "RoleArn"),
    "CreateModel": ("ExecutionRoleArn",),
}
S3_OBJECTS = {
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "DeleteObject": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "ListParts": "ListMultipartUploadParts",
    "GetObjectTagging": "GetObjectTagging",
    "PutObjectTagging": "PutObjectTagging",
}
VERSIONED = {"GetObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion"}
S3_BUCKETS = {
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "GetBucketLocation": "GetBucketLocation",
}


def list_needs(call: Call, region: str, account: str = ACCOUNT) -> list[Need]:
    """List every permission that one call needs; if any is missing, the call is refused."""
    if (call.service, call.operation) in FREE:
        return []
    place = f"{region}:{account}"
    read = READERS.get(call.service)
    found = list(read(call, place)) if read else []
    return found or [Need(f"{PREFIXES.get(call.service, call.service)}:{call.operation}")]


def list_s3(call: Call, _place: str) -> Iterator[Need]:
    """Yield S3's needs: a copy is a read and a write, and versions have actions of their own."""
    told = call.parameters
    bucket = f"arn:aws:s3:::{told.get('Bucket', '')}"
    if call.operation in ("CopyObject", "UploadPartCopy"):
        source = told["CopySource"]
        yield _need_object("GetObject", source)
        yield _need_object("PutObject", told)
    elif call.operation == "DeleteObjects":
        for each in told["Delete"]["Objects"]:
            yield _need_object("DeleteObject", {**each, "Bucket": told["Bucket"]})
    elif call.operation in S3_OBJECTS:
        yield _need_object(S3_OBJECTS[call.operation], told)
    elif call.operation in S3_BUCKETS:
        names = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter"}
        context = {key: str(told[name]) for key, name in names.items() if name in told}
        yield Need(f"s3:{S3_BUCKETS[call.operation]}", bucket, context)
    if told.get("Tagging"):
        yield Need("s3:PutObjectTagging", f"{bucket}/{told['Key']}")


def _need_object(action: str, place: Mapping[str, Any]) -> Need:
    named = VERSIONED.get(action, action) if place.get("VersionId") else action
    return Need(f"s3:{named}", f"arn:aws:s3:::{place['Bucket']}/{place['Key']}")


def list_sagemaker(call: Call, place: str) -> Iterator[Need]:
    """Yield SageMaker's needs, with those for the passed role, for initial tags, and for an endpoint's config."""
    told, action = call.parameters, f"sagemaker:{call.operation}"
    resources = list(_list_sagemaker_resources(call, f"arn:aws:sagemaker:{place}"))
    yield from (Need(action, resource) for resource in resources)
    if call.operation.startswith("Create") and told.get("Tags"):
        yield Need("sagemaker:AddTags", resources[0])
    if call.operation in PASSED_ROLES:
        role: Any = told
        for member in PASSED_ROLES[call.operation]:
            role = role.get(member, {})
        if isinstance(role, str):
            yield Need("iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"})


def _list_sagemaker_resources(call: Call, prefix: str) -> Iterator[str]:
    told = call.parameters
    if "ResourceArn" in told:
        yield str(told["ResourceArn"])
    for title, kind in SAGEMAKER_KINDS.items():
        is_its_own = any(call.operation == f"{verb}{title}" for verb in SAGEMAKER_VERBS)
        if (
            is_its_own
            or call.operation == f"ListTrainingJobsFor{title}"
            or (title == "Endpoint" and call.operation in ("InvokeEndpoint", "UpdateEndpointWeightsAndCapacities"))
        ):
            yield f"{prefix}:{kind}/{told.get(f'{title}Name', '')}"
    if call.operation in ("CreateEndpoint", "UpdateEndpoint"):
        yield f"{prefix}:endpoint-config/{told.get('EndpointConfigName', '')}"


def list_events(call: Call, place: str) -> Iterator[Need]:
    """Yield EventBridge's needs: PutEvents is allowed by bus."""
    if call.operation == "PutEvents":
        for bus in dict.fromkeys(entry.get("EventBusName", "default") for entry in call.parameters.get("Entries", [])):
            name = bus if bus.startswith("arn:") else f"arn:aws:events:{place}:event-bus/{bus}"
            yield Need("events:PutEvents", name)


def list_sns(call: Call, _place: str) -> Iterator[Need]:
    """Yield SNS's needs, by topic."""
    if "TopicArn" in call.parameters:
        yield Need(f"sns:{call.operation}", call.parameters["TopicArn"])


def list_secrets(call: Call, place: str) -> Iterator[Need]:
    """Yield Secrets Manager's needs: an ARN ends in six characters that the name does not contain."""
    if secret := call.parameters.get("SecretId"):
        arn = secret if secret.startswith("arn:") else f"arn:aws:secretsmanager:{place}:secret:{secret}-??????"
        yield Need(f"secretsmanager:{call.operation}", arn)


def list_logs(call: Call, place: str) -> Iterator[Need]:
    """Yield CloudWatch Logs' needs, by group, and by stream where lines or streams are written."""
    told = call.parameters
    if group := told.get("logGroupName"):
        arn = f"arn:aws:logs:{place}:log-group:{group}"
        of_stream = call.operation in ("CreateLogStream", "PutLogEvents", "GetLogEvents")
        stream = f":log-stream:{told.get('logStreamName', '')}" if of_stream else ""
        yield Need(f"logs:{call.operation}", f"{arn}{stream}")


def list_scaling(call: Call, place: str) -> Iterator[Need]:
    """Yield Application Auto Scaling's needs, by namespace: the service chooses a target's ARN at random."""
    told = call.parameters
    names = {
        "application-autoscaling:service-namespace": "ServiceNamespace",
        "application-autoscaling:scalable-dimension": "ScalableDimension",
    }
    context = {key: str(told[name]) for key, name in names.items() if name in told}
    is_listing = call.operation.startswith("Describe")
    target = "*" if is_listing else f"arn:aws:application-autoscaling:{place}:scalable-target/0000"
    yield Need(f"application-autoscaling:{call.operation}", target, context)


READERS = {
    "s3": list_s3,
    "sagemaker": list_sagemaker,
    "events": list_events,
    "sns": list_sns,
    "secretsmanager": list_secrets,
    "logs": list_logs,
    "application-autoscaling": list_scaling,
}
