"""Start the servers that are compared, each with one model, and tell how much memory they hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.contracts.toolkits.environments import build_environment
from tests.contracts.toolkits.torchserve import TorchServe
from tests.support.local_cloud import find_free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START_SECONDS = 120
JPEG = {"Content-Type": "image/jpeg"}
BOUNDARY = "a-boundary-that-no-photo-holds"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass
class Running:
    """A server: where it takes which body with which headers, its first process, and how to end it."""

    url: str
    body: Path
    process: int
    end: Callable[[], None]
    headers: Mapping[str, str] = field(default_factory=lambda: JPEG)

    def measure_memory(self) -> float:
        """Return the MiB of memory that its processes hold; pages that several of them share are counted once.

        Files that they map, such as libraries, do not count: the kernel may drop them, and other programs share them.
        """
        return sum(read_own(each.pid) for each in self._list_processes()) / 1024

    def measure_processor(self) -> float:
        """Return the processor seconds that its processes have used."""
        used = 0.0
        for each in self._list_processes():
            with suppress(psutil.NoSuchProcess):
                used += sum(each.cpu_times()[:2])
        return used

    def _list_processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.process)
        return [first, *first.children(recursive=True)]


def read_own(process: int) -> int:
    """Return the kB of a process that are no file's, as the kernel shares them out."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        told = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        return told["Pss_Anon"] + told["Pss_Shmem"]
    return 0


def write_bodies(folder: Path, jpeg: bytes) -> tuple[Path, Path]:
    """Write the photo as it is, and as the only file of a form. Returns both files."""
    plain, form = folder / "photo.jpg", folder / "photo.form"
    plain.write_bytes(jpeg)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    form.write_bytes(f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode())
    return plain, form


def start_ours(
    model: Path, body: Path, folder: Path, workers: int, engines: Path | None = None, program: str = "inference.py"
) -> Running:
    """Start the local cloud's model server alone, one thread a worker."""
    folder.mkdir()
    command = [sys.executable, "-m", "localcloud.serving.model_server", "--model-dir", str(model)]
    command += ["--threads", str(workers), "--port-file", str(folder / "port")]
    command += ["--engines", str(engines)] if engines else []
    process = start(command, folder, {"SAGEMAKER_PROGRAM": program})
    wait_for(process, folder, (folder / "port").exists)
    url = f"http://127.0.0.1:{(folder / 'port').read_text()}/invocations"
    return Running(url, body, process.pid, lambda: end(process))


def start_torchserve(model: Path, body: Path, folder: Path, workers: int, threads: int) -> Running:
    """Start TorchServe 0.12 as AWS's image configures it, with torch 2.6 as there."""
    chosen = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers), "OMP_NUM_THREADS": str(threads)}
    server = TorchServe(build_environment("serving"), model, folder, chosen)
    server.wait()
    deadline = time.monotonic() + START_SECONDS
    while server.count_workers() < workers:
        if time.monotonic() > deadline:
            raise SystemExit(f"TorchServe's workers did not start: {server.log.read_text()[-2000:]}")
        time.sleep(0.1)
    return Running(f"{server.url}/invocations", body, server._process.pid, server.end)


def start_litserve(
    model: Path, form: Path, folder: Path, workers: int, threads: int, engines: Path | None = None
) -> Running:
    """Start LitServe."""
    folder.mkdir()
    port = find_free_port()
    python = build_environment("litserve", HERE) / "python"
    command = [str(python), str(HERE / "litserve_program.py"), str(model), str(port), str(workers), str(threads)]
    command += [str(engines)] if engines else []
    process = start(command, folder, {"OMP_NUM_THREADS": str(threads)})
    wait_for(process, folder, lambda: is_healthy(f"http://127.0.0.1:{port}/health"))
    return Running(f"http://127.0.0.1:{port}/predict", form, process.pid, lambda: end(process), FORM)


def start(command: list[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, with its output in the folder's `log`."""
    with (folder / "log").open("wb") as log:
        environment = os.environ | dict(variables)
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def wait_for(process: subprocess.Popen[bytes], folder: Path, look: Callable[[], bool]) -> None:
    """Return when the server is ready. Exits with its output if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not look():
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            raise SystemExit(f"a server did not start: {(folder / 'log').read_text()[-3000:]}")
        time.sleep(0.1)


def is_healthy(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=2).status_code == 200
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End the program with all that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            return
