"""Define every error that the local cloud answers with, in AWS's codes and texts.

    ServiceError                       400  any code that a service model names
    ├── ValidationException            400  a request breaks the model, or names what does not exist
    ├── ResourceInUse                  400  a job's name is taken
    ├── ResourceNotFound               400  what the request names does not exist
    ├── ResourceLimitExceeded          400  a limit of the account is reached
    ├── SerializationException         400  the body is not JSON, or a member has another type
    ├── UnknownOperation               400  the service has no such operation
    ├── Unsupported                    400  AWS has it, the local cloud does not
    └── InternalFailure                500  a fault of the local cloud itself

Unsupported answers with ValidationException's code, because clients treat that one as final.
"""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """A service's error answer: code, text, HTTP status, and further members of the error's shape."""

    code = "ServiceError"
    status = 400

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, members: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.members = members or {}


class ValidationException(ServiceError):
    """A request breaks the service model, or names what cannot be found or created."""

    code = "ValidationException"


class ResourceInUse(ServiceError):
    """A job of this name exists already, or its state does not allow the request."""

    code = "ResourceInUse"


class ResourceNotFound(ServiceError):
    """What the request names does not exist."""

    code = "ResourceNotFound"


class ResourceLimitExceeded(ServiceError):
    """A limit of the account is reached."""

    code = "ResourceLimitExceeded"


class SerializationException(ServiceError):
    """The body is not JSON, or a member's type is not the model's."""

    code = "SerializationException"


class UnknownOperation(ServiceError):
    """The service has no operation of this name."""

    code = "UnknownOperationException"


class Unsupported(ServiceError):
    """AWS would do this; the local cloud does not, and says so instead of ignoring it."""

    code = "ValidationException"


class InternalFailure(ServiceError):
    """The local cloud itself failed."""

    code = "InternalFailure"
    status = 500
