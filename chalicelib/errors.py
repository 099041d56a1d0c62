"""Every error that the control plane raises on purpose.

    WhippetError                         500
    ├── BadRequest                       400
    │   └── InvalidName                  400
    ├── Unauthorized                     401
    ├── NotFound                         404
    │   ├── RunNotFound                  404
    │   ├── ModelNotFound                404
    │   └── DatasetNotFound              404
    ├── MethodNotAllowed                 405
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
    """A name holds characters, or has a length, that cannot be served."""


class Unauthorized(WhippetError):
    """The bearer token is missing, unknown or revoked."""

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


class MethodNotAllowed(WhippetError):
    """The path is served, but not with this method. `allowed` names those that are."""

    status = 405

    def __init__(self, message: str, *, allowed: Iterable[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(WhippetError):
    """The thing exists, but its state does not allow the request."""

    status = 409


class EndpointFailed(Conflict):
    """The endpoint behind a model failed to start."""


class PayloadTooLarge(WhippetError):
    """The body is larger than the API accepts."""

    status = 413


class UnsupportedMediaType(WhippetError):
    """The content type is not one that is supported."""

    status = 415


class Unprocessable(WhippetError):
    """The request is well formed, but its content cannot be used."""

    status = 422


class BrokenZip(Unprocessable):
    """An archive's bytes do not follow the zip format."""


class UnreadableImage(Unprocessable):
    """The bytes are not an image that can be decoded."""


class InvalidRecipe(Unprocessable):
    """A recipe violates its schema, or a rule between two of its members."""

    problems: tuple[str, ...] = ()

    @classmethod
    def listing(cls, problems: Iterable[object]) -> InvalidRecipe:
        """Return one error that reports every problem, each on its own line."""
        lines = tuple(str(problem) for problem in problems)
        error = cls("The recipe cannot be used:\n" + "\n".join(f"- {line}" for line in lines))
        error.problems = lines
        return error


class ServiceError(WhippetError):
    """An AWS call failed for a reason that is not the caller's."""

    status = 502


class AccessDenied(ServiceError):
    """AWS refused the call because a permission is missing."""


class AlreadyExists(ServiceError):
    """AWS already holds a resource of this name."""


class InvalidRequest(ServiceError):
    """AWS refused the request, and will refuse it again."""


class ModelError(ServiceError):
    """The container behind an endpoint answered with an error; its status and its body are kept."""

    def __init__(self, message: str, *, original_status: int, original_body: str) -> None:
        super().__init__(message)
        self.original_status = original_status
        self.original_body = original_body


class PreconditionFailed(ServiceError):
    """A conditional call came too late: the thing has changed since the caller saw it."""


class ServiceNotFound(ServiceError):
    """AWS holds no resource of this name."""


class QuotaExceeded(ServiceError):
    """A limit of the account is in the way; `quota` is its name, where AWS gives one."""

    def __init__(self, message: str, *, quota: str = "") -> None:
        super().__init__(message)
        self.quota = quota


class QuotaTooSmall(QuotaExceeded):
    """A limit of the account is below the request; waiting does not help.

    `shortages` has a phrase for each limit, and `most` is the largest of the limits.
    """

    def __init__(self, message: str, *, quota: str = "", shortages: tuple[str, ...] = (), most: int = 0) -> None:
        super().__init__(message, quota=quota)
        self.shortages = shortages
        self.most = most


class Busy(ServiceError):
    """The thing is changing at the moment; the same call will work later."""

    status = 503


class Throttled(ServiceError):
    """AWS throttled the call."""

    status = 503


class TimedOut(ServiceError):
    """No answer came in time; the call may have been carried out all the same."""

    status = 503


class ModelNotReady(WhippetError):
    """The endpoint is starting and will answer soon."""

    status = 503


class InvalidSettings(WhippetError):
    """An environment variable of the functions is missing or unusable."""
