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
    │   ├── BrokenZip                    422
    │   ├── UnreadableImage              422
    │   └── InvalidRecipe                422
    ├── ServiceError                     502  an AWS call failed
    │   ├── AccessDenied                 502
    │   ├── AlreadyExists                502
    │   ├── InvalidRequest               502  AWS refused what we asked, and always will
    │   ├── ModelError                   502  the model's container answered with an error
    │   ├── PreconditionFailed           502  a conditional call came too late
    │   ├── QuotaExceeded                502
    │   │   └── QuotaTooSmall            502  no waiting helps
    │   ├── ServiceNotFound              502  the thing asked of AWS is not there
    │   ├── Busy                         503  the thing is changing at the moment
    │   ├── Throttled                    503
    │   └── TimedOut                     503  no answer came in the time that there was
    ├── ModelNotReady                    503
    └── InvalidSettings                  500

A message says what, where, which value, and what to do. `code` is what a program may compare.
"""

from __future__ import annotations

from collections.abc import Iterable


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


class BrokenZip(Unprocessable):
    """An archive's bytes are not what the zip format says."""


class UnreadableImage(Unprocessable):
    """The bytes are no image that can be decoded."""


class InvalidRecipe(Unprocessable):
    """A recipe breaks its schema, or a rule between two of its members."""

    problems: tuple[str, ...] = ()

    @classmethod
    def listing(cls, problems: Iterable[object]) -> InvalidRecipe:
        """One error that tells of every problem, each on a line of its own."""
        lines = tuple(str(problem) for problem in problems)
        error = cls("The recipe cannot be used:\n" + "\n".join(f"- {line}" for line in lines))
        error.problems = lines
        return error


class ServiceError(WhippetError):
    """An AWS call failed for a reason that is not the caller's."""

    status = 502


class AccessDenied(ServiceError):
    """AWS refused the call for want of a permission."""


class AlreadyExists(ServiceError):
    """AWS holds a thing of this name already."""


class InvalidRequest(ServiceError):
    """AWS refused what was asked, and will refuse it again."""


class ModelError(ServiceError):
    """The container behind an endpoint answered with an error: its status and its body are kept."""

    def __init__(self, message: str, *, original_status: int, original_body: str) -> None:
        super().__init__(message)
        self.original_status = original_status
        self.original_body = original_body


class PreconditionFailed(ServiceError):
    """A conditional call came too late: the thing is no longer what the caller saw."""


class ServiceNotFound(ServiceError):
    """AWS holds no thing of this name."""


class QuotaExceeded(ServiceError):
    """A limit of the account stands in the way: `quota` is its name, where AWS tells it."""

    def __init__(self, message: str, *, quota: str = "") -> None:
        super().__init__(message)
        self.quota = quota


class QuotaTooSmall(QuotaExceeded):
    """A limit of the account is below what is asked for: no waiting helps. `shortages` has a phrase for each limit."""

    def __init__(self, message: str, *, quota: str = "", shortages: tuple[str, ...] = ()) -> None:
        super().__init__(message, quota=quota)
        self.shortages = shortages


class Busy(ServiceError):
    """The thing is changing at the moment; the same call will do later."""

    status = 503


class Throttled(ServiceError):
    """AWS asks for patience."""

    status = 503


class TimedOut(ServiceError):
    """No answer came in the time that there was; the call may have been carried out all the same."""

    status = 503


class ModelNotReady(WhippetError):
    """The endpoint is on its way and will answer soon."""

    status = 503


class InvalidSettings(WhippetError):
    """An environment variable of the functions is missing or cannot be used."""
