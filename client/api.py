"""The public API over HTTP: one method for each route that the command uses, and its errors as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from client.config import Login

SECONDS = 60
UPLOAD_SECONDS = 600
COMMANDS = {"GET /runs": "whippet runs", "GET /models": "whippet models"}  # of this program, for routes in messages


class ApiError(Exception):
    """The API refused, or did not answer. `status` is 0 where there was no answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Api:
    """The routes of one app."""

    def __init__(self, login: Login, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {login.token}", "User-Agent": "whippet"}
        self.url = login.url
        self._client = httpx.Client(base_url=login.url, headers=headers, timeout=SECONDS, transport=transport)
        self._plain = httpx.Client(timeout=UPLOAD_SECONDS, transport=transport)  # signed URLs take no token

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Return a route's answer. Raises ApiError."""
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ApiError(0, "NoAnswer", f"{self.url} does not answer ({error}). Is the address right?") from error
        return read_answer(response)

    def list_page(self, limit: int) -> dict[str, Any]:
        """Return the newest runs, and whether somebody is billed for them."""
        return self.ask("GET", "runs", params={"limit": limit})

    def list_runs(self, limit: int) -> list[dict[str, Any]]:
        return list(self.list_page(limit)["runs"])

    def describe_run(self, run: str) -> dict[str, Any]:
        return self.ask("GET", f"runs/{quote(run, safe='')}")

    def list_curves(self, run: str) -> dict[str, Any]:
        return self.ask("GET", f"runs/{quote(run, safe='')}/curves")

    def read_log(self, run: str, job: str | None, lines: int) -> dict[str, Any]:
        """Return the last lines of a job: of the one that failed or runs, if none is named."""
        query = {"lines": lines} | ({"job": job} if job else {})
        return self.ask("GET", f"runs/{quote(run, safe='')}/log", params=query)

    def act(self, run: str, verb: str, body: bytes = b"") -> dict[str, Any]:
        """POST runs/RUN/VERB: stop, retry (whose body may be a recipe), approve."""
        return self.ask("POST", f"runs/{quote(run, safe='')}/{verb}", content=body)

    def write_recipe(self, dataset: str, body: bytes) -> dict[str, Any]:
        """Put a recipe beside a dataset, for the runs that begin from now on."""
        return self.ask("POST", f"datasets/{quote(dataset, safe='')}/recipe", content=body)

    def tell_weights(self, architecture: str) -> dict[str, Any]:
        """Return what the app knows of a network's ImageNet weights; nothing where it is older than that route."""
        try:
            return self.ask("GET", "weights", params={"architecture": architecture})
        except ApiError as error:
            if error.status != 404:
                raise
            return {}

    def list_models(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", "models")["models"])

    def predict(self, model: str, files: list[Path], **query: Any) -> dict[str, Any]:
        """Classify files, several in one request. query: top, threshold and explain, as far as they are wanted."""
        sent = [("file", (path.name, path.read_bytes())) for path in files]
        return self.ask("POST", f"models/{quote(model, safe='')}/predict", params=query, files=sent)

    def predict_upload(self, model: str, id: str, **query: Any) -> dict[str, Any]:
        """Classify an image that is too large for a request, and lies in the bucket."""
        body = {"images": [{"upload": id}]}
        return self.ask("POST", f"models/{quote(model, safe='')}/predict", params=query, json=body)

    def begin_upload(self, kind: str, name: str, size: int) -> dict[str, Any]:
        return self.ask("POST", "uploads", json={"kind": kind, "name": name, "size": size})

    def describe_upload(self, id: str) -> dict[str, Any]:
        """Return an upload in parts: what has arrived, and fresh addresses for the rest."""
        return self.ask("GET", f"uploads/{id}")

    def put(self, url: str, content: Iterator[bytes], size: int) -> str:
        """PUT bytes to a signed URL. Returns the object's ETag. Raises ApiError."""
        try:
            response = self._plain.put(url, content=content, headers={"Content-Length": str(size)})
        except httpx.HTTPError as error:
            raise ApiError(0, "NoAnswer", f"The bucket does not answer ({error}). Try again.") from error
        if response.status_code != 200:
            raise ApiError(response.status_code, "UploadRefused", f"The bucket refused it: {response.text[:300]}")
        return response.headers["ETag"]

    def complete_upload(self, route: str, etags: list[str]) -> dict[str, Any]:
        parts = [{"number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
        return self.ask("POST", route, json={"parts": parts})


def read_answer(response: httpx.Response) -> dict[str, Any]:
    """Return an answer's JSON. Raises ApiError with the API's own words, where it has any."""
    try:
        document: dict[str, Any] = response.json()
    except ValueError:
        document = {}
    if response.is_success:
        return document
    error = document.get("error") or {}
    message = error.get("message") or f"The API answered {response.status_code}: {response.text[:200]}"
    for route, command in COMMANDS.items():
        message = message.replace(f"{route} lists", f"'{command}' lists")
    raise ApiError(response.status_code, error.get("code") or "Unknown", message)
