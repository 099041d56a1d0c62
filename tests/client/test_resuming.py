"""An upload in parts goes on after its process ended: the command itself, against a server that keeps what arrived."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client.api import Api, ApiError
from client.config import Login
from client.resuming import KEPT_SECONDS, Memory
from client.uploads import Upload
from tests.support.layouts import picture

ROOT = Path(__file__).parents[2]
PIECE = 1000  # bytes of a part, in place of 64 MB
PARTS = 4


class Store(ThreadingHTTPServer):
    """The API and the bucket. A PUT of a part in `hanging` is read and never answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[int] = []
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.hanging: set[int] = set()
        self.reached = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def describe(self, id: str) -> dict[str, Any]:
        parts = [
            {"number": number, "size": PIECE}
            | ({"etag": f'"{number}"'} if number in self.uploads[id] else {"url": f"{self.url}/bucket/{id}/{number}"})
            for number in range(1, PARTS + 1)
        ]
        return {"id": id, "size": PIECE * PARTS, "parts": parts, "complete": f"uploads/{id}/complete"}


class Handler(BaseHTTPRequestHandler):
    server: Store

    def answer(self, status: int, document: Any, **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        id = self.path.rpartition("/")[2]
        if id in self.server.uploads:
            self.answer(200, self.server.describe(id))
        else:
            self.answer(404, {"error": {"code": "NotFound", "message": "The upload is over."}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/uploads":
            id = f"{len(self.server.uploads)}"
            self.server.uploads[id] = {}
            self.answer(201, self.server.describe(id))
            return
        id = self.path.split("/")[-2]
        assert [part["etag"] for part in body["parts"]] == [f'"{number}"' for number in range(1, PARTS + 1)]
        self.answer(200, {"id": id, "key": "datasets/large.zip"})

    def do_PUT(self) -> None:
        id, number = self.path.split("/")[-2], int(self.path.split("/")[-1])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if number in self.server.hanging:
            self.server.reached.set()
            return
        self.server.sent.append(number)
        self.server.uploads[id][number] = body
        self.answer(200, {}, ETag=f'"{number}"')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Watcher:
    """Who is told how far an upload is, and remembers it."""

    def __init__(self) -> None:
        self.begun = (0, 0)
        self.sent = 0

    def begin(self, size: int, arrived: int) -> None:
        self.begun = size, arrived

    def add(self, count: int) -> None:
        self.sent += count


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.zip"
    path.write_bytes(bytes(range(250)) * (PIECE * PARTS // 250))
    return path


def start(store: Store, path: Path, home: Path) -> subprocess.Popen[str]:
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "API_URL": f"{store.url}/api", "API_TOKEN": "good"}
    command = [sys.executable, "-m", "client.main", "upload", str(path), "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell lets its background jobs ignore SIGINT, and so would this command where the tests are such a job.
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(command, env=variables | {"COLUMNS": "200"}, cwd=ROOT, preexec_fn=listen, **pipes)


def send(store: Store, path: Path, memory: Memory, name: str = "large") -> Watcher:
    """Upload in this process; a connection that is cut is not waited for."""
    watcher = Watcher()

    def give_up(_seconds: float) -> None:
        raise ApiError(0, "NoAnswer", "cut")

    Upload(Api(Login(f"{store.url}/api", "good")), name, memory, watcher, give_up).send(path)
    return watcher


def interrupt(store: Store, path: Path, memory: Memory) -> None:
    """Let an upload end when two parts have arrived."""
    store.hanging = {3}
    with pytest.raises(ApiError):
        send(store, path, memory)
    store.hanging = set()
    assert store.sent == [1, 2]
    store.sent.clear()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_sends_what_is_missing(store: Store, file: Path, tmp_path: Path, number: int) -> None:
    """After Ctrl-C, which says so and has an exit code of its own, and after a kill. Nothing is kept afterwards."""
    store.hanging = {3}
    first = start(store, file, tmp_path)
    assert store.reached.wait(20)
    first.send_signal(number)
    out, err = first.communicate(timeout=20)
    if number == signal.SIGINT:
        assert first.returncode == 130
        told = " ".join(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", err).split())
        assert "0.0 of 0.0 MB have arrived, and are kept for a day. The same command goes on from there." in told
    assert (out, store.sent) == ("", [1, 2])
    store.hanging = set()
    second = start(store, file, tmp_path)
    out, err = second.communicate(timeout=20)
    assert second.returncode == 0, err
    assert "Going on with an earlier upload" in err
    assert json.loads(out)["key"] == "datasets/large.zip"
    assert store.sent == [1, 2, 3, 4]
    assert b"".join(store.uploads["0"][number] for number in range(1, PARTS + 1)) == file.read_bytes()
    assert list((tmp_path / ".cache/whippet/uploads").iterdir()) == []


def test_what_has_arrived_counts_from_the_beginning(store: Store, file: Path, tmp_path: Path) -> None:
    """The bar begins where the upload goes on, and is told only what is sent now."""
    memory = Memory(tmp_path / "memory")
    interrupt(store, file, memory)
    watcher = send(store, file, memory)
    assert (watcher.begun, watcher.sent) == ((PARTS * PIECE, 2 * PIECE), 2 * PIECE)


@pytest.mark.parametrize("change", ["time", "bytes", "name", "forgotten", "old"])
def test_what_is_not_the_same_upload_begins_at_its_beginning(
    store: Store, file: Path, tmp_path: Path, change: str
) -> None:
    """A file that was changed, another name, an upload that the app keeps no longer, or one of yesterday."""
    memory = Memory(tmp_path / "memory")
    interrupt(store, file, memory)
    told = file.stat()
    if change == "bytes":  # of the same size and time
        file.write_bytes(b"x" + file.read_bytes()[1:])
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    elif change == "time":
        os.utime(file, (1, 1))
    elif change == "forgotten":
        store.uploads["1"] = store.uploads.pop("0")
    elif change == "old":
        memory = Memory(memory.folder, lambda: told.st_mtime + KEPT_SECONDS + 3600)
    send(store, file, memory, name="other" if change == "name" else "large")
    assert store.sent == [1, 2, 3, 4]


def test_a_folder_goes_on_too(store: Store, tmp_path: Path) -> None:
    """It is packed again, into the same bytes; a file that was added makes it another upload."""
    folder, memory = tmp_path / "photos", Memory(tmp_path / "memory")
    body = picture()
    for name in ("red/1.png", "green/2.png", "green/1980.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    os.utime(folder / "green/1980.png", (1, 1))  # a time that no zip can hold
    filling = PIECE * PARTS - measure_zip(folder, tmp_path)
    (folder / "green/2.png").write_bytes(body + bytes(filling))
    interrupt(store, folder, memory)
    send(store, folder, memory)
    assert store.sent == [3, 4]
    store.sent.clear()
    interrupt(store, folder, memory)
    (folder / "red/1.png").rename(folder / "red/3.png")
    send(store, folder, memory)
    assert store.sent == [1, 2, 3, 4]


def measure_zip(folder: Path, scratch: Path) -> int:
    from client.uploads import zip_folder

    return zip_folder(folder, scratch / "measured.zip").stat().st_size
