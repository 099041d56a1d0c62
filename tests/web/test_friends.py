"""Test that a page of a site that the user named may upload and predict from a browser, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.local_cloud import LocalCloud, find_free_port, run_local_cloud

PAGE = b"<!doctype html><title>A shop</title>"
ASK = """async ([method, address, headers, body]) => {
  try {
    const answer = await fetch(address, {method, headers, body});
    return [answer.status, await answer.text()];
  } catch (error) { return [0, String(error)]; }
}"""


class Shop(BaseHTTPRequestHandler):
    """A site with one empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", find_free_port()), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def befriended(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A local cloud whose user named the shop's origin, under one of its two names."""
    home = tmp_path_factory.mktemp("befriended") / "state"
    with run_local_cloud(home, CORS_ORIGINS=f"http://localhost:{port}") as cloud:
        yield cloud


def test_a_friendly_page_uploads_and_predicts_and_no_more(befriended: LocalCloud, port: int, browser: Browser) -> None:
    """The shop's page gets answers of two routes; the same page under its other name, a stranger's, gets none."""
    url, token = befriended.variables["API_URL"], befriended.variables["API_TOKEN"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = json.dumps({"kind": "image", "size": 5})
    friend, stranger = browser.new_page(), browser.new_page()
    friend.goto(f"http://localhost:{port}/")
    stranger.goto(f"http://127.0.0.1:{port}/")
    status, text = friend.evaluate(ASK, ["POST", f"{url}/uploads", headers, request])
    assert status == 201, text
    upload = json.loads(text)
    assert friend.evaluate(ASK, ["PUT", upload["url"], {}, "bytes"])[0] == 200
    status, text = friend.evaluate(ASK, ["POST", f"{url}/models/none/predict", headers, request])
    assert (status, json.loads(text)["error"]["code"]) == (400, "BadRequest")
    assert friend.evaluate(ASK, ["GET", f"{url}/runs", headers, None])[0] == 0
    assert stranger.evaluate(ASK, ["POST", f"{url}/uploads", headers, request])[0] == 0
    assert stranger.evaluate(ASK, ["PUT", upload["url"], {}, "other"])[0] == 0
    friend.close()
    stranger.close()
    stored = befriended.s3.get_object(Bucket=befriended.bucket, Key=upload["key"])["Body"].read()
    assert stored == b"bytes"
