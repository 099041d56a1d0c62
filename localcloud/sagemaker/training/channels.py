"""Look into the channels of a request, as CreateTrainingJob does before it takes a job."""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.common.transfers import TransferError, list_objects, split_uri
from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Cloud


def check_channels(cloud: Cloud, definition: Record) -> None:
    """Raise ValidationException for a channel without objects, or whose objects cannot be listed."""
    for channel in definition.get("InputDataConfig", []) if cloud.s3 is not None else []:
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        if _is_empty(cloud, uri):
            raise ValidationException(
                f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket '
                f"exists in the selected region ({cloud.region}), that objects exist under that S3 prefix, and that "
                f'the role "{definition["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{split_uri(uri)[0]}".'
            )


def _is_empty(cloud: Cloud, uri: str) -> bool:
    try:
        return next(list_objects(cloud.s3, uri), None) is None
    except TransferError:
        return True
