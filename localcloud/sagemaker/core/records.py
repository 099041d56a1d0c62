"""Finding what a request names, with SageMaker's own texts where it is not there, or there already.

Jobs have other codes: see `training_jobs`. Names are kept as they are given, and compared without their case, since
ARNs are lower case.
"""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Cloud

_LABELS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def find_record(cloud: Cloud, kind: str, name: str) -> Record | None:
    """The record of this kind and name, or None."""
    known = next((known for known in cloud.store.names(kind) if known.lower() == name.lower()), None)
    return cloud.store.get(kind, known) if known is not None else None


def require_record(cloud: Cloud, kind: str, name: str) -> Record:
    """The record of this kind and name. Raises ValidationException where there is none."""
    record = find_record(cloud, kind, name)
    if record is None:
        raise ValidationException(f'Could not find {_LABELS[kind]} "{cloud.arn(kind, name)}".')
    return record


def refuse_taken(cloud: Cloud, kind: str, name: str) -> None:
    """Raise ValidationException (not ResourceInUse, which is for jobs) where the name is taken."""
    if find_record(cloud, kind, name) is not None:
        raise ValidationException(f'Cannot create already existing {_LABELS[kind]} "{cloud.arn(kind, name)}".')


def show_record(record: Record) -> Record:
    """The record without its private members."""
    return {key: value for key, value in record.items() if not key.startswith("_")}
