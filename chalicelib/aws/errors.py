"""Map AWS's error codes to our errors. A test proves that every error code of every operation we call is mapped."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib import errors
from chalicelib.aws.quotas import read_refusal
from chalicelib.errors import ServiceError

ERRORS: Mapping[str, type[ServiceError]] = {
    "AccessDenied": errors.AccessDenied,
    "AccessDeniedException": errors.AccessDenied,
    "AuthorizationError": errors.AccessDenied,
    "DecryptionFailure": errors.AccessDenied,
    "ExpiredToken": errors.AccessDenied,
    "ExpiredTokenException": errors.AccessDenied,
    "InvalidClientTokenId": errors.AccessDenied,
    "InvalidSecurity": errors.AccessDenied,
    "FailedResourceAccessException": errors.AccessDenied,
    "KMSAccessDenied": errors.AccessDenied,
    "SignatureDoesNotMatch": errors.AccessDenied,
    "UnrecognizedClientException": errors.AccessDenied,
    "403": errors.AccessDenied,
    "ResourceInUse": errors.AlreadyExists,
    "404": errors.ServiceNotFound,
    "NoSuchBucket": errors.ServiceNotFound,
    "NoSuchKey": errors.ServiceNotFound,
    "NoSuchUpload": errors.ServiceNotFound,
    "NoSuchVersion": errors.ServiceNotFound,
    "NotFound": errors.ServiceNotFound,
    "ObjectNotFoundException": errors.ServiceNotFound,
    "ResourceNotFound": errors.ServiceNotFound,
    "ResourceNotFoundException": errors.ServiceNotFound,
    "LimitExceededException": errors.QuotaExceeded,
    "ResourceLimitExceeded": errors.QuotaExceeded,
    "KMSThrottling": errors.Throttled,
    "ModelNotReadyException": errors.Throttled,
    "RequestLimitExceeded": errors.Throttled,
    "ServiceUnavailable": errors.Throttled,
    "ServiceUnavailableException": errors.Throttled,
    "SlowDown": errors.Throttled,
    "Throttling": errors.Throttled,
    "ThrottlingException": errors.Throttled,
    "TooManyRequestsException": errors.Throttled,
    "409": errors.Busy,
    "ConcurrentUpdateException": errors.Busy,
    "ConditionalRequestConflict": errors.Busy,
    "OperationAborted": errors.Busy,
    "412": errors.PreconditionFailed,
    "PreconditionFailed": errors.PreconditionFailed,
    "EncryptionTypeMismatch": errors.InvalidRequest,
    "EndpointDisabled": errors.InvalidRequest,
    "EntityTooSmall": errors.InvalidRequest,
    "InvalidObjectState": errors.InvalidRequest,
    "InvalidParameter": errors.InvalidRequest,
    "InvalidParameterException": errors.InvalidRequest,
    "InvalidPart": errors.InvalidRequest,
    "InvalidPartOrder": errors.InvalidRequest,
    "InvalidRequest": errors.InvalidRequest,
    "InvalidRequestException": errors.InvalidRequest,
    "InvalidWriteOffset": errors.InvalidRequest,
    "KMSDisabled": errors.InvalidRequest,
    "KMSInvalidState": errors.InvalidRequest,
    "KMSNotFound": errors.InvalidRequest,
    "KMSOptInRequired": errors.InvalidRequest,
    "ObjectNotInActiveTierError": errors.InvalidRequest,
    "ParameterValueInvalid": errors.InvalidRequest,
    "PlatformApplicationDisabled": errors.InvalidRequest,
    "TooManyParts": errors.InvalidRequest,
    "ValidationError": errors.InvalidRequest,
    "ValidationException": errors.InvalidRequest,
    "InternalDependencyException": ServiceError,
    "InternalError": ServiceError,
    "InternalException": ServiceError,
    "InternalFailure": ServiceError,
    "InternalServiceError": ServiceError,
    "InternalServiceException": ServiceError,
}

# SageMaker raises ValidationException for many reasons; only the text tells them apart.
VALIDATION_TEXTS: tuple[tuple[str, type[ServiceError]], ...] = (
    ("Cannot create already existing", errors.AlreadyExists),
    ("assume role", errors.AccessDenied),  # of a role whose creation IAM has not told everywhere yet, too
    ("sts:AssumeRole", errors.AccessDenied),
    ("is not authorized to perform", errors.AccessDenied),
    ("Could not access model data", errors.AccessDenied),  # by the role, or since there is none
    ("No scalable target", errors.ServiceNotFound),
    ("Could not find", errors.ServiceNotFound),
    ("Requested resource not found", errors.ServiceNotFound),
    ("in-progress", errors.Busy),
    ("is not in a state where it can be", errors.Busy),
    ("is in status", errors.Busy),  # the stop of a job that has ended
)


def translate(error: Exception, doing: str) -> ServiceError:
    """Return our error for one of botocore's. `doing` says what was being done, for the message."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):  # there was no response: a network or a configuration error
        kind = errors.TimedOut if type(error).__name__ == "ReadTimeoutError" else ServiceError
        return kind(f"{doing}: {error}")
    code = str(response.get("Error", {}).get("Code", ""))
    text = str(response.get("Error", {}).get("Message", ""))
    message = f"{doing}: {code}: {text}"
    if code == "403":  # the response to HEAD has no body
        message += (
            ". S3 does not say what is missing: it may be s3:GetObject, or s3:ListBucket where there is no such key."
        )
    if code == "ModelError":
        status, body = int(response.get("OriginalStatusCode", 500)), str(response.get("OriginalMessage", ""))
        return errors.ModelError(message, original_status=status, original_body=body)
    if ERRORS.get(code) is errors.QuotaExceeded:
        return read_refusal(message)
    if code == "ValidationException":
        for part, kind in VALIDATION_TEXTS:
            if part in text:
                return kind(message)
    return ERRORS.get(code, ServiceError)(message)
