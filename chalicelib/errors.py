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

A message says what, where, which value, and what to do. `code` is what a program may compare. `remedy` is what to do in
general; `python -m docs.drawing` makes docs/errors.md of it.
"""

from __future__ import annotations

from collections.abc import Iterable


class WhippetError(Exception):
    """The root of the tree: something failed that is ours to explain."""

    status = 500
    remedy = "Try again; if it stays, the function's log has the request's id and the cause."

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
    remedy = (
        "Correct what the message names: a query member, the JSON or the form. openapi.json describes every request."
    )


class InvalidName(BadRequest):
    """A name holds characters, or has a length, that cannot be served."""

    remedy = "Rename the zip, or choose another name: the message has the rule that this one breaks."


class Unauthorized(WhippetError):
    """The bearer token is missing, unknown or revoked."""

    status = 401
    remedy = (
        "Send `Authorization: Bearer TOKEN`. Locally the token is API_TOKEN in .localcloud/env; on AWS it is "
        "in the stack's secret."
    )


class NotFound(WhippetError):
    """What the path names does not exist."""

    status = 404
    remedy = "Check the path against openapi.json, or upload the thing again: uploads are kept for a day."


class RunNotFound(NotFound):
    """No run has this identifier."""

    remedy = "List the runs with GET /runs or `whippet runs`. A deleted dataset takes its runs along."


class ModelNotFound(NotFound):
    """No model has this name."""

    remedy = (
        "List the models with GET /models or `whippet models`. A dataset has a model once a run of it was deployed."
    )


class DatasetNotFound(NotFound):
    """No dataset has this name."""

    remedy = "Check the name: it is the zip's name without .zip, in the bucket's folder datasets/."


class MethodNotAllowed(WhippetError):
    """The path is served, but not with this method. `allowed` names those that are."""

    status = 405
    remedy = "Use one of the methods that the header Allow lists."

    def __init__(self, message: str, *, allowed: Iterable[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(WhippetError):
    """The thing exists, but its state does not allow the request."""

    status = 409
    remedy = "Look at the thing's status first: the message says which status it has, and which one is needed."


class EndpointFailed(Conflict):
    """The endpoint behind a model failed to start."""

    remedy = (
        "Retry the run (`whippet retry RUN`). If it fails again, take a machine with more memory: endpoint in "
        "the recipe."
    )


class PayloadTooLarge(WhippetError):
    """The body is larger than the API accepts."""

    status = 413
    remedy = "Make the image smaller, or send it with POST /uploads, which takes up to 25 MB."


class UnsupportedMediaType(WhippetError):
    """The content type is not one that is supported."""

    status = 415
    remedy = "Send the bytes of an image, a form with files, or JSON with the member image."


class Unprocessable(WhippetError):
    """The request is well formed, but its content cannot be used."""

    status = 422
    remedy = "Correct what the message names, and send it again."


class BrokenZip(Unprocessable):
    """An archive's bytes do not follow the zip format."""

    remedy = "Make the zip again, test it with `unzip -t dogs.zip`, and upload it again."


class UnreadableImage(Unprocessable):
    """The bytes are not an image that can be decoded."""

    remedy = "Open the file: it may be cut off, or not an image. Save it as JPEG, PNG or WebP."


class InvalidRecipe(Unprocessable):
    """A recipe violates its schema, or a rule between two of its members."""

    problems: tuple[str, ...] = ()
    remedy = "Every problem is on its own line. `whippet recipe check dogs.json` lists them without a server."

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
    remedy = "Try again in a minute. If it stays, the message has AWS's own words."


class AccessDenied(ServiceError):
    """AWS refused the call because a permission is missing."""

    remedy = "Deploy again (`make deploy`), which renews the roles. The message names the permission that is missing."


class AlreadyExists(ServiceError):
    """AWS already holds a resource of this name."""

    remedy = "Nothing, where a run goes on by itself. Otherwise delete the resource that the message names."


class InvalidRequest(ServiceError):
    """AWS refused the request, and will refuse it again."""

    remedy = (
        "Change what AWS's words name in the recipe or in the stage's parameters; the same request will fail again."
    )


class ModelError(ServiceError):
    """The container behind an endpoint answered with an error; its status and its body are kept."""

    remedy = "Send another image. If all of them fail, the endpoint's log has the cause; retry the run."

    def __init__(self, message: str, *, original_status: int, original_body: str) -> None:
        super().__init__(message)
        self.original_status = original_status
        self.original_body = original_body


class PreconditionFailed(ServiceError):
    """A conditional call came too late: the thing has changed since the caller saw it."""

    remedy = "Nothing: someone else was faster, and the next look goes on from what they wrote."


class ServiceNotFound(ServiceError):
    """AWS holds no resource of this name."""

    remedy = "Nothing, while a removal goes on. Otherwise somebody deleted the resource by hand: retry the run."


class QuotaExceeded(ServiceError):
    """A limit of the account is in the way; `quota` is its name, where AWS gives one."""

    remedy = "Wait, or ask AWS for more at Service Quotas: the message has the quota's name. The run goes on by itself."

    def __init__(self, message: str, *, quota: str = "") -> None:
        super().__init__(message)
        self.quota = quota


class QuotaTooSmall(QuotaExceeded):
    """A limit of the account is below the request; waiting does not help.

    `shortages` has a phrase for each limit, and `most` is the largest of the limits.
    """

    remedy = "Ask AWS for more at Service Quotas, or name instance types in the recipe that the account may start."

    def __init__(self, message: str, *, quota: str = "", shortages: tuple[str, ...] = (), most: int = 0) -> None:
        super().__init__(message, quota=quota)
        self.shortages = shortages
        self.most = most


class Busy(ServiceError):
    """The thing is changing at the moment; the same call will work later."""

    status = 503
    remedy = "Wait a moment and try again."


class Throttled(ServiceError):
    """AWS throttled the call."""

    status = 503
    remedy = "Wait for the seconds that Retry-After says, and try again."


class TimedOut(ServiceError):
    """No answer came in time; the call may have been carried out all the same."""

    status = 503
    remedy = "Try again: asking twice does no harm."


class ModelNotReady(WhippetError):
    """The endpoint is starting and will answer soon."""

    status = 503
    remedy = "Wait for the seconds that Retry-After says. A serverless endpoint needs up to a minute to wake up."


class InvalidSettings(WhippetError):
    """An environment variable of the functions is missing or unusable."""

    remedy = "Deploy again with the parameter that the message names: an environment variable of a function is wrong."
