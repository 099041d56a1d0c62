"""Find what a request names, and raise SageMaker's own errors where it is missing or exists already.

Jobs have other codes: see `training.jobs`. Names are kept as given, and compared without case, since ARNs are lower
case.
"""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Cloud

_LABELS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def find_record(cloud: Cloud, kind: str, name: str) -> Record | None:
    """Return the record of this kind and name, or None."""
    known = next((known for known in cloud.store.names(kind) if known.lower() == name.lower()), None)
    return cloud.store.get(kind, known) if known is not None else None


def require_record(cloud: Cloud, kind: str, name: str) -> Record:
    """Return the record of this kind and name. Raises ValidationException if there is none."""
    record = find_record(cloud, kind, name)
    if record is None:
        raise ValidationException(f'Could not find {_LABELS[kind]} "{cloud.arn(kind, name)}".')
    return record


def refuse_taken(cloud: Cloud, kind: str, name: str) -> None:
    """Raise ValidationException (not ResourceInUse, which is for jobs) if the name is taken."""
    if find_record(cloud, kind, name) is not None:
        raise ValidationException(f'Cannot create already existing {_LABELS[kind]} "{cloud.arn(kind, name)}".')


def show_record(record: Record) -> Record:
    """Return the record without its private members."""
    return {key: value for key, value in record.items() if not key.startswith("_")}
