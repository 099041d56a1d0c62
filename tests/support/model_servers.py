"""Run a model server in its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx


def start_server(
    model_dir: Path, folder: Path, threads: int = 2, engines: Path | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a model server, wait until it serves, and return its process and URL. Its files stay in `folder`."""
    port_file = folder / "port"
    command = [sys.executable, "-m", "localcloud.serving.model_server", "--model-dir", str(model_dir)]
    options = ["--port-file", str(port_file), "--threads", str(threads)]
    if engines:
        options += ["--engines", str(engines)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while not port_file.exists():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "the server did not start within a minute"
        time.sleep(0.02)
    return process, f"http://127.0.0.1:{port_file.read_text()}"


def end_server(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTERM and return the exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def post(url: str, body: bytes, **headers: str) -> httpx.Response:
    """Invoke the model and return its response."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/invocations", content=body, headers=names, timeout=30)
