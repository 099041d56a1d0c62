"""Refuse a request with a status and one line of JSON that says what to do.

AWS's handler (`sagemaker_inference.transformer.Transformer.transform`) turns every exception into a 500, except those
derived from its own `BaseInferenceToolkitError`, whose `status_code`, `phrase` and `message` it sends. That package
exists only in AWS's image, so it is not imported: if a handler runs us, it has loaded the package already, and the
base class is taken from there.

The handler answers with `message`, a line break and the traceback. Clients read the first line.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus


def _find_base() -> type[Exception]:
    toolkit = sys.modules.get("sagemaker_inference.errors")
    return getattr(toolkit, "BaseInferenceToolkitError", Exception)


_Base = _find_base()


class Refusal(_Base):  # type: ignore[misc, valid-type]
    """Report a request that cannot be answered because of what the caller sent.

    `status_code`, `phrase` and `message` are what AWS's handler reads; `message` is `{"error": {"code", "message"}}`.
    """

    def __init__(self, status: HTTPStatus, code: str, explanation: str) -> None:
        Exception.__init__(self, explanation)
        self.status_code = int(status)
        self.phrase = status.phrase
        self.message = json.dumps({"error": {"code": code, "message": explanation}})


def refuse_request(explanation: str) -> Refusal:
    """Return a 400: the request has no content to classify."""
    return Refusal(HTTPStatus.BAD_REQUEST, "BadRequest", explanation)


def refuse_accept(explanation: str) -> Refusal:
    """Return a 406: the answer exists only as JSON."""
    return Refusal(HTTPStatus.NOT_ACCEPTABLE, "NotAcceptable", explanation)


def refuse_size(explanation: str) -> Refusal:
    """Return a 413: the body is larger than an endpoint accepts."""
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "PayloadTooLarge", explanation)


def refuse_type(explanation: str) -> Refusal:
    """Return a 415: the content type is not supported."""
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", explanation)


def refuse_image(explanation: str) -> Refusal:
    """Return a 422: the bytes cannot be read as an image."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "UnreadableImage", explanation)
