"""Parse, validate and serialise by AWS's own description of a service, as botocore ships it.

botocore's client checks only required members, types and minima, so enums, patterns and maxima are checked here, as
the service does, with the service's texts. Patterns with `\\p{…}` are skipped: Python's `re` has no such class.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.loaders
import botocore.model

from localcloud.protocol.errors import SerializationException, UnknownOperation, ValidationException

Shape = Any
_TYPE_NAMES = {str: "STRING_VALUE", bool: "BOOLEAN", int: "NUMBER_VALUE", float: "DECIMAL_VALUE", list: "START_ARRAY"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "timestamp": (int, float, str, datetime),
    "blob": (str, bytes),
}


@cache
def load_service(name: str) -> botocore.model.ServiceModel:
    """Return botocore's model of a service (`sagemaker`, `sagemaker-runtime`), loaded once."""
    description = botocore.loaders.create_loader().load_service_model(name, "service-2")
    return botocore.model.ServiceModel(description, service_name=name)


def find_operation(service: str, name: str) -> botocore.model.OperationModel:
    """Return the operation's model. Raises UnknownOperation for a name that the service lacks."""
    model = load_service(service)
    if name not in model.operation_names:
        raise UnknownOperation(f"The service {service} has no operation {name!r}")
    return model.operation_model(name)


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a request's body as a dictionary. Raises SerializationException where it is not a JSON object."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:  # the second for what is nested too deeply
        raise SerializationException(f"The request's body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SerializationException("The request's body is not a JSON object")
    return value


def parse_request(operation: botocore.model.OperationModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return the request with the model's types (datetimes, bytes) and without nulls, after every check of the model.

    Raises SerializationException on a wrong type, ValidationException with all other faults counted and named.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    parsed: dict[str, Any] = _convert(shape, request, "")
    if faults := list(_find_faults(shape, parsed, "")):
        plural = "error" if len(faults) == 1 else "errors"
        raise ValidationException(f"{len(faults)} validation {plural} detected: {'; '.join(faults)}")
    return parsed


def serialise(shape: Shape, value: Any) -> Any:
    """Return a response in JSON's types: times as epoch seconds, bytes as base64, None left out.

    Raises ValueError on a member that the shape lacks: the local cloud must not answer with what AWS never sends.
    """
    if shape.type_name == "structure":
        if unknown := set(value) - set(shape.members):
            raise ValueError(f"{shape.name} has no member {sorted(unknown)}")
        return {key: serialise(shape.members[key], item) for key, item in value.items() if item is not None}
    if shape.type_name == "list":
        return [serialise(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: serialise(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return round(value.timestamp(), 3)
    if shape.type_name == "blob":
        return base64.b64encode(value).decode("ascii")
    return value


def _convert(shape: Shape, value: Any, path: str) -> Any:
    kind = shape.type_name
    _check_type(kind, value, path)
    if kind == "structure":
        _refuse_unknown(shape, value, path)
        return {k: _convert(shape.members[k], v, _join(path, k)) for k, v in value.items() if v is not None}
    if kind == "list":
        return [_convert(shape.member, item, f"{path}.{n}.member") for n, item in enumerate(value, 1)]
    if kind == "map":
        return {key: _convert(shape.value, item, f"{path}.{key}") for key, item in value.items()}
    if kind == "timestamp":
        return _parse_time(value, path)
    return _decode_blob(value, path) if kind == "blob" else value


def _check_type(kind: str, value: Any, path: str) -> None:
    if not isinstance(value, _PYTHON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        found = _TYPE_NAMES.get(type(value), "START_OBJECT")
        raise SerializationException(f"{found} cannot be converted to {kind.capitalize()} at '{path}'")


def _refuse_unknown(shape: Shape, value: dict[str, Any], path: str) -> None:
    if unknown := sorted(set(value) - set(shape.members)):
        raise ValidationException(
            f"1 validation error detected: Unknown member '{unknown[0]}' at '{path or shape.name}': "
            f"Member must be one of [{', '.join(shape.members)}]"
        )


def _parse_time(value: Any, path: str) -> datetime:
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError) as error:
        raise SerializationException(f"{value!r} at '{path}' is not a timestamp: {error}") from error
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _decode_blob(value: str | bytes, path: str) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise SerializationException(f"the value at '{path}' is not base64: {error}") from error


def _find_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure":
        for name in shape.required_members:
            if name not in value:
                yield _describe_fault(None, _join(path, name), "Member must not be null")
        for name, item in value.items():
            yield from _find_faults(shape.members[name], item, _join(path, name))
    elif kind == "list":
        yield from _find_length_faults(shape, value, path)
        for number, item in enumerate(value, 1):
            yield from _find_faults(shape.member, item, f"{path}.{number}.member")
    elif kind == "map":
        yield from _find_length_faults(shape, value, path)
        for key, item in value.items():
            yield from _find_map_faults(shape, key, item, value, path)
    elif kind in ("string", "blob"):
        yield from _find_string_faults(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _find_number_faults(shape, value, path)


def _find_map_faults(shape: Shape, key: str, item: Any, value: Any, path: str) -> Iterator[str]:
    for part, word, element in ((shape.key, "keys", key), (shape.value, "value", item)):
        constraints = [fault.split("failed to satisfy constraint: ")[1] for fault in _find_faults(part, element, path)]
        if constraints:
            yield _describe_fault(value, path, f"Map {word} must satisfy constraint: [{', '.join(constraints)}]")


def _find_string_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        yield _describe_fault(value, path, f"Member must satisfy enum value set: [{', '.join(enum)}]")
        return
    yield from _find_length_faults(shape, value, path)
    pattern = shape.metadata.get("pattern")
    if pattern and (compiled := _compile(pattern)) and not compiled.fullmatch(value):
        yield _describe_fault(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _find_length_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _describe_fault(value, path, f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _describe_fault(value, path, f"Member must have length less than or equal to {most}")


def _find_number_faults(shape: Shape, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _describe_fault(value, path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _describe_fault(value, path, f"Member must have value less than or equal to {most}")


@cache
def _compile(pattern: str) -> re.Pattern[str] | None:
    if "\\p{" in pattern:
        return None
    try:
        return re.compile(pattern)
    except re.error:
        return None  # a construct of Java's regular expressions that Python lacks


def _describe_fault(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{_show(value)}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_show, value)) + "]"
    return str(value)


def _join(path: str, name: str) -> str:
    camel = name[0].lower() + name[1:]
    return f"{path}.{camel}" if path else camel
