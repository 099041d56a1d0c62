"""Classify images: check the request, call the endpoint, and put its errors into our words."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from chalicelib import errors
from chalicelib.aws.sagemaker import Kind
from chalicelib.models.bodies import JSON_TYPE, Asked, Image, read_images
from chalicelib.models.uploads import sign_image
from chalicelib.runs.identity import make_endpoint_name
from chalicelib.services import Services

RETRY_SECONDS = 10
WAKING_SECONDS = 25.0  # API Gateway gives the function 29 in all
LEAST_SECONDS = 1.0  # the least time that another try needs
PAUSES = (0.5, 1.0, 2.0)  # seconds between tries; the last one repeats
BYTES_TYPE = "application/octet-stream"  # the endpoint tells the format by the bytes
EXPLAINED = "; explain=true"  # behind the content type: the only part of a request that reaches a model's input_fn
AT_ONCE = 4  # images of one request that the endpoint is asked about at a time
# What concerns one image alone; any other error concerns the model, and so the whole request.
BY_IMAGE = (
    errors.BadRequest,
    errors.NotFound,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.Unprocessable,
)
BY_STATUS: dict[int, type[errors.WhippetError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.UnreadableImage,
}


@dataclass(frozen=True)
class Question:
    """A request to classify images, as it came: its body, its content type, and the query's members."""

    body: bytes
    content_type: str = ""
    top: str | None = None
    threshold: str | None = None
    explain: str | None = None


def predict(model: str, question: Question, services: Services) -> dict[str, Any]:
    """Return {results, run_id, milliseconds}: for each image its classes, best first.

    With `explain`, a result has `explanation` too: the image with a map of what decided, as a PNG in a data URL.
    Where a request holds several images, one that cannot be classified has {error} for its result, and the others are
    answered. Raises the errors that the route answers: 400, 404, 409, 413, 415, 422, 502 or 503.
    """
    started = time.perf_counter()
    wanted = Wanted(parse_top(question.top), parse_threshold(question.threshold))
    asked = read_images(question.body, question.content_type, services.settings.image_max_bytes)
    answer = ask_all(model, asked, services, explain=parse_explain(question.explain))
    answer["results"] = [wanted.apply(result) for result in answer["results"]]
    return answer | {"milliseconds": round((time.perf_counter() - started) * 1000, 1)}


@dataclass(frozen=True)
class Wanted:
    """What of an answer the caller wants: how many classes, and from which probability on an answer is sure."""

    top: int | None
    threshold: float | None

    def apply(self, result: dict[str, Any]) -> dict[str, Any]:
        if "error" in result:
            return result
        ranked = result["predictions"]
        sure = {} if self.threshold is None else {"sure": bool(ranked) and ranked[0]["probability"] >= self.threshold}
        return result | {"predictions": ranked[: self.top]} | sure


def parse_top(text: str | None) -> int | None:
    """Return how many classes are wanted; None for all. Raises BadRequest."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and int(text) > 0):
        raise errors.BadRequest(f"top is {text[:40]!r}, and must be a whole number from 1, as in ?top=5.")
    return int(text)


def parse_threshold(text: str | None) -> float | None:
    """Return the probability below which an answer is not sure; None where no threshold is given. Raises BadRequest."""
    if text is None:
        return None
    if not re.fullmatch(r"(0(\.\d{1,6})?|1(\.0{1,6})?|\.\d{1,6})", text, re.ASCII):
        raise errors.BadRequest(f"threshold is {text[:40]!r}, and must be from 0 to 1, as in ?threshold=0.8.")
    return float(text)


def parse_explain(text: str | None) -> bool:
    """Return whether answers are to be explained. Raises BadRequest."""
    if text not in (None, "true", "false"):
        raise errors.BadRequest(f"explain is {text[:40]!r}, and must be true or false, as in ?explain=true.")
    return text == "true"


def ask_all(model: str, asked: Asked, services: Services, *, explain: bool) -> dict[str, Any]:
    """Ask the endpoint about every image, several at a time, and return {results, run_id} in the images' order.

    An error of the endpoint itself, and that of a request with one image, is raised.
    """
    endpoint = make_endpoint_name(services.settings, model)
    ask = partial(ask_one, model, endpoint, services=services, parameters=EXPLAINED if explain else "")
    if not asked.several:
        found = [ask(asked.images[0])]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(ask, asked.images))
    failed = [each for each in found if isinstance(each, errors.WhippetError)]
    if failed and (not asked.several or not isinstance(failed[0], BY_IMAGE)):
        raise failed[0]
    answered = (each for each in found if not isinstance(each, errors.WhippetError))
    results = [describe_result(image, each) for image, each in zip(asked.images, found, strict=True)]
    return {"results": results, "run_id": next((each.get("run_id") for each in answered), None)}


def ask_one(
    model: str, endpoint: str, image: Image, *, services: Services, parameters: str
) -> dict[str, Any] | errors.WhippetError:
    """Return the endpoint's answer to one image, or the error that it met. parameters: of the content type."""
    if image.error:
        return image.error
    try:
        body, kind = image.data, BYTES_TYPE
        if image.upload is not None:
            body, kind = json.dumps({"url": sign_image(image.upload, services)}).encode(), JSON_TYPE
        return invoke(model, endpoint, body, kind + parameters, services)
    except errors.WhippetError as error:
        return error


def describe_result(image: Image, found: dict[str, Any] | errors.WhippetError) -> dict[str, Any]:
    """Return an image's result, or its error, beside its file's name."""
    named = {"name": image.name} if image.name else {}
    if isinstance(found, errors.WhippetError):
        return named | {"error": {"code": found.code, "message": found.message}}
    return named | dict(found["results"][0])


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
