"""Classify an image: check the request, call the endpoint, and put its errors into our words."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

from chalicelib import errors
from chalicelib.aws.sagemaker import Kind
from chalicelib.runs.identity import make_endpoint_name
from chalicelib.services import Services

# For the last two, the endpoint reads the format from the bytes.
CONTENT_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream", "application/x-image")
RETRY_SECONDS = 10
WAKING_SECONDS = 25.0  # API Gateway gives the function 29 in all
LEAST_SECONDS = 1.0  # the least time that another try needs
PAUSES = (0.5, 1.0, 2.0)  # seconds between tries; the last one repeats
BY_STATUS: dict[int, type[errors.WhippetError]] = {
    400: errors.BadRequest,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.UnreadableImage,
}


def predict(model: str, body: bytes, content_type: str, top: str | None, services: Services) -> dict[str, Any]:
    """Return the classes of an image, best first: {results, run_id, milliseconds}; only the first `top` if it is given.

    Raises the errors that the route answers: 400, 404, 409, 413, 415, 422, 502 or 503.
    """
    started = time.perf_counter()
    count = parse_top(top)
    kind = check_content_type(content_type)
    check_size(body, services.settings.image_max_bytes)
    endpoint = make_endpoint_name(services.settings, model)
    answer = invoke(model, endpoint, body, kind, services)
    for result in answer.get("results", []):
        result["predictions"] = result["predictions"][:count]
    return answer | {"milliseconds": round((time.perf_counter() - started) * 1000, 1)}


def parse_top(text: str | None) -> int | None:
    """Return how many classes are wanted; None for all. Raises BadRequest."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and int(text) > 0):
        raise errors.BadRequest(f"top is {text[:40]!r}, and must be a whole number from 1, as in ?top=5.")
    return int(text)


def check_content_type(header: str) -> str:
    """Return the content type without its parameters. Raises UnsupportedMediaType."""
    kind = header.partition(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        served = ", ".join(CONTENT_TYPES)
        raise errors.UnsupportedMediaType(f"The content type is {header[:80]!r}. Send the picture's bytes as {served}.")
    return kind


def check_size(body: bytes, limit: int) -> None:
    """Check the size in bytes. Raises UnreadableImage for an empty body, and PayloadTooLarge for one over the limit."""
    if not body:
        raise errors.UnreadableImage("The body is empty. Send the bytes of one picture.")
    if len(body) > limit:
        message = f"The picture has {len(body):,} bytes, and {limit:,} are the most. Send it smaller."
        raise errors.PayloadTooLarge(message)


def invoke(model: str, endpoint: str, body: bytes, content_type: str, services: Services) -> dict[str, Any]:
    """Return the endpoint's answer, or raise its error as the route shows it."""
    try:
        answer: dict[str, Any] = json.loads(_ask_patiently(endpoint, body, content_type, services))
    except errors.ModelError as error:
        raise _explain_model_error(model, error) from error
    except (errors.Throttled, errors.TimedOut) as error:
        message = f"The model {model!r} is busy or waking up. Try again in a moment."
        raise errors.ModelNotReady(message, retry_after=RETRY_SECONDS) from error
    except (errors.InvalidRequest, errors.ServiceNotFound) as error:  # there is no endpoint, or it does not serve
        raise _explain_endpoint(model, endpoint, services) or error from error
    except ValueError as error:
        raise errors.ServiceError(f"The model {model!r} answered with something that is not JSON.") from error
    return answer


def _ask_patiently(endpoint: str, body: bytes, content_type: str, services: Services) -> bytes:
    """Ask until the endpoint answers: a serverless endpoint takes a while to wake up.

    Raises Throttled or TimedOut after WAKING_SECONDS. Asking twice is harmless, because a prediction changes nothing.
    """
    clock, tries = services.clock, 0
    deadline = clock.now() + timedelta(seconds=WAKING_SECONDS)
    while True:
        left = (deadline - clock.now()).total_seconds()
        try:
            return services.runtime.invoke(endpoint, body, content_type, left)
        except (errors.Throttled, errors.TimedOut):
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if (deadline - clock.now()).total_seconds() < pause + LEAST_SECONDS:
                raise
        clock.sleep(pause)
        tries += 1


def _explain_model_error(model: str, error: errors.ModelError) -> errors.WhippetError:
    """Return our error for one that the model's container answered, with its words if they are meant for the caller.

    AWS's serving toolkit puts a traceback after the error's own line; it belongs in the log.
    """
    kind = BY_STATUS.get(error.original_status)
    first_line = error.original_body.partition("\n")[0]
    try:
        message = str(json.loads(first_line)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = first_line[:300] or "no reason given"
    if kind is None:
        return errors.ServiceError(f"The model {model!r} failed with status {error.original_status}. Try again.")
    return kind(message)


def _explain_endpoint(model: str, endpoint: str, services: Services) -> errors.WhippetError | None:
    """Explain why an endpoint does not answer. Returns None if SageMaker says that it serves."""
    described = services.sagemaker.describe(Kind.ENDPOINT, endpoint)
    status = described["EndpointStatus"] if described else "Deleting"
    if described is None or status == "Deleting":
        return errors.ModelNotFound(f"There is no model {model!r}. GET /models lists them.")
    if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
        why = described.get("FailureReason") or f"its endpoint is {status}"
        return errors.EndpointFailed(f"The model {model!r} failed to start: {why}")
    if status != "InService":
        message = f"The model {model!r} is on its way: its endpoint is {status}."
        return errors.ModelNotReady(message, retry_after=RETRY_SECONDS)
    return None
