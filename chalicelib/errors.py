"""Every error that the control plane raises on purpose.

    WhippetError                         500
    ├── BadRequest                       400
    │   └── InvalidName                  400
    ├── Unauthorized                     401
    ├── NotFound                         404
    │   ├── RunNotFound                  404
    │   ├── ModelNotFound                404
    │   └── DatasetNotFound              404
    ├── Conflict                         409
    │   └── EndpointFailed               409
    ├── PayloadTooLarge                  413
    ├── UnsupportedMediaType             415
    ├── Unprocessable                    422
    │   ├── UnreadableImage              422
    │   └── InvalidRecipe                422
    ├── ServiceError                     502  an AWS call failed
    │   ├── AccessDenied                 502
    │   ├── AlreadyExists                502
    │   ├── ServiceNotFound              502  the thing asked of AWS is not there
    │   ├── QuotaExceeded                502
    │   └── Throttled                    503
    └── ModelNotReady                    503

A message says what, where, which value, and what to do. `code` is what a program may compare.
"""

from __future__ import annotations


class WhippetError(Exception):
    """The root of the tree: something failed that is ours to explain."""

    status = 500

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        return type(self).__name__


class BadRequest(WhippetError):
    """The request cannot be understood."""

    status = 400


class InvalidName(BadRequest):
    """A name has characters or a length that cannot be served."""


class Unauthorized(WhippetError):
    """The bearer token is missing, unknown or withdrawn."""

    status = 401


class NotFound(WhippetError):
    """What the path names does not exist."""

    status = 404


class RunNotFound(NotFound):
    """No run has this identifier."""


class ModelNotFound(NotFound):
    """No model has this name."""


class DatasetNotFound(NotFound):
    """No dataset has this name."""


class Conflict(WhippetError):
    """The thing exists, and its state does not allow this."""

    status = 409


class EndpointFailed(Conflict):
    """The endpoint behind a model failed to start."""


class PayloadTooLarge(WhippetError):
    """The body is larger than the door takes."""

    status = 413


class UnsupportedMediaType(WhippetError):
    """The content type is none that is served."""

    status = 415


class Unprocessable(WhippetError):
    """The request is well formed, and what it holds cannot be used."""

    status = 422


class UnreadableImage(Unprocessable):
    """The bytes are no image that can be decoded."""


class InvalidRecipe(Unprocessable):
    """A recipe breaks its schema."""


class ServiceError(WhippetError):
    """An AWS call failed for a reason that is not the caller's."""

    status = 502


class AccessDenied(ServiceError):
    """AWS refused the call for want of a permission."""


class AlreadyExists(ServiceError):
    """AWS holds a thing of this name already."""


class ServiceNotFound(ServiceError):
    """AWS holds no thing of this name."""


class QuotaExceeded(ServiceError):
    """A limit of the account stands in the way."""


class Throttled(ServiceError):
    """AWS asks for patience."""

    status = 503


class ModelNotReady(WhippetError):
    """The endpoint is on its way and will answer soon."""

    status = 503
