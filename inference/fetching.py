"""Fetch an uploaded image, which a request names by a signed URL of the app's own bucket.

Only that origin is asked (the model's environment names it), and no redirect is followed, so that a caller cannot make
the endpoint ask any other host.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

from refusals import Refusal, refuse_request, refuse_size

SECONDS = 20


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch_image(body: bytes | str, origin: str, limit: int) -> bytes:
    """Return the bytes that a request's URL names. Raises Refusal: 400, 404 and 413; 502 where the bucket fails."""
    url = read_url(body)
    parts = urlsplit(url)
    if not origin or f"{parts.scheme}://{parts.netloc}" != origin:
        raise refuse_request("The URL is not one of this app's bucket. POST /uploads signs one.")
    try:
        with build_opener(ProxyHandler({}), NoRedirect).open(url, timeout=SECONDS) as answer:
            data: bytes = answer.read(limit + 1)
    except HTTPError as error:
        if error.code in (403, 404):
            message = "Nothing was uploaded there, or its time is over. Upload the image again."
            raise Refusal(HTTPStatus.NOT_FOUND, "NotFound", message) from error
        raise refuse_bucket(f"status {error.code}") from error
    except (URLError, OSError) as error:
        raise refuse_bucket(type(error).__name__) from error
    if len(data) > limit:
        raise refuse_size(f"The image has over {limit} bytes, and no more are taken. Shrink it.")
    return data


def read_url(body: bytes | str) -> str:
    """Return the member `url` of a JSON body. Raises Refusal (400)."""
    try:
        url = json.loads(body)["url"]
    except (ValueError, TypeError, KeyError) as error:
        raise refuse_request('The JSON is read as {"url": "…"}, a signed URL of this app\'s bucket.') from error
    if not isinstance(url, str):
        raise refuse_request("The member url must be text.")
    return url


def refuse_bucket(why: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_GATEWAY, "BucketFailed", f"The upload could not be fetched ({why}). Try again.")
