"""Packages that the profiled training lacks are installed only where an index answers; else it goes on at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from inspection import answers, find_index, install_missing


class Index(BaseHTTPRequestHandler):
    """Refuses every request, as an index without a start page does."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


def test_an_index_that_answers_is_asked(index: str) -> None:
    """Any answer will do; an address that is not known is simply tried."""
    assert answers(index)
    assert answers("")
    assert find_index({"PIP_INDEX_URL": index}) == index


def test_a_silent_index_costs_two_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that takes connections and says nothing: the log names what is missing, and nothing is installed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        environ = {"PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple"}
        install_missing({"no_such_module": "no-such-package==1"}, environ, tmp_path / "packages")
    assert time.monotonic() - begun < 6
    assert "no package index answers, so the training goes on without no-such-package==1" in capsys.readouterr().out
    assert not (tmp_path / "packages").exists()


def test_an_index_that_refuses_costs_nothing() -> None:
    """Where nothing listens, nothing is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    begun = time.monotonic()
    assert not answers(f"http://127.0.0.1:{port}/simple", seconds=30)
    assert time.monotonic() - begun < 10
