"""Run one model server behind an endpoint: fetch its archive, start it, watch it, restart it when it dies, stop it.

SageMaker gives every model its own machines. Here a variant is one process on a free loopback port, however many
instances its configuration asks for. Its workers share the machine's cores with everything else.
"""

from __future__ import annotations

import http.client
import logging
import shutil
import threading
import time
from pathlib import Path

from localcloud.common.logs import LogStream
from localcloud.common.transfers import TransferError, download_archive
from localcloud.jobs.forkserver import Function, Launch, Process
from localcloud.jobs.output import LogReader
from localcloud.jobs.run import Tools
from localcloud.sagemaker.hosting.deployments import Variant

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LOOK_SECONDS = 0.02
WATCH_SECONDS = 0.5
GRACE_SECONDS = 15
BACKOFF_SECONDS = (0.5, 1, 2, 5, 15, 60)


class StartError(Exception):
    """A model server could not be started. The text is the endpoint's FailureReason."""


class ModelProcess:
    """The server of one variant. `port` is where it listens, or None while it does not answer."""

    def __init__(
        self, variant: Variant, folder: Path, stream: LogStream, tools: Tools, threads: int, engines: Path
    ) -> None:
        self.variant = variant
        self.port: int | None = None
        self._folder = folder
        self._tools = tools
        self._threads = threads
        self._engines = engines
        self._stream = stream
        self._log = folder / "log"
        self._process: Process | None = None
        self._stopping = threading.Event()
        self._shipping = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{variant.model}", daemon=True)

    def start(self) -> None:
        """Fetch the archive, start the server, return when it is healthy. Raises StartError with SageMaker's text."""
        self._folder.mkdir(parents=True)
        self._log.touch()
        self._reader = LogReader(self._log)
        try:
            download_archive(self._tools.s3, self.variant.archive, self._folder / "model")
        except TransferError as error:
            raise StartError(
                f'Failed to download model data for container "container_1" from URL: "{self.variant.archive}". Please '
                "ensure that there is an object located at the URL and that the role passed to CreateModel has "
                f"permissions to download the object. ({error})"
            ) from error
        if self._stopping.is_set():
            raise StartError("The endpoint was removed while its servers were starting.")
        self._launch()
        self._watcher.start()
        self._wait_healthy()

    def stop(self) -> None:
        """End the server. Requests under way are answered first, for at most 15 seconds."""
        self._stopping.set()
        self.port = None
        if self._process is not None:
            self._process.terminate()
            if self._process.wait(GRACE_SECONDS) is None:
                self._process.kill()
                self._process.wait()
        if self._watcher.is_alive():
            self._watcher.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> None:
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        arguments = ["--model-dir", str(self._folder / "model"), "--host", HOST]
        arguments += ["--port-file", str(port_file), "--threads", str(self._threads)]
        arguments += ["--engines", str(self._engines)]
        launch = Launch(
            Function("localcloud.serving.model_server:main"),
            cwd=self._folder,
            log=self._log,
            env={**self._tools.environment, **self.variant.environment},
            argv=arguments,
            paths=[str(ROOT)],
        )
        self._process = self._tools.processes.launch(launch)

    def _wait_healthy(self) -> None:
        deadline = time.monotonic() + self.variant.startup_seconds
        while not self._check_health():
            ended = self._process is None or self._process.poll() is not None
            if ended or self._stopping.is_set() or time.monotonic() > deadline:
                self._ship_log(last=True)
                raise StartError(explain_unhealthy(self.variant.name, self._reader.last_line))
            time.sleep(LOOK_SECONDS)

    def _check_health(self) -> bool:
        try:
            port = int((self._folder / "port").read_text())
        except FileNotFoundError:
            return False
        if is_healthy(port):
            self.port = port
        return self.port is not None

    def _watch(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            status = self._process.wait(WATCH_SECONDS) if self._process is not None else None
            self._ship_log(last=status is not None)
            if status is None:
                continue
            if self.port is None and deaths == 0:
                return  # it never served, and `start` reports that
            self.port = None
            wait = BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS) - 1)]
            log.warning("the server of model %s ended with %s; again in %s s", self.variant.model, status, wait)
            deaths += 1
            if not self._stopping.wait(wait):
                self._start_again()
        self._ship_log(last=True)

    def _start_again(self) -> None:
        self._launch()
        try:
            self._wait_healthy()
        except StartError as error:
            log.warning("model %s: %s", self.variant.model, error)

    def _ship_log(self, *, last: bool) -> None:
        with self._shipping:
            if self._log.exists():
                self._stream.write(self._reader.read(last=last), self._tools.clock.now())


def is_healthy(port: int) -> bool:
    """Return whether a model server answers its health check."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def explain_unhealthy(variant: str, last_line: str) -> str:
    """Return SageMaker's words for a container that did not become healthy, and the last line of its log if any."""
    told = (
        f"The primary container for production variant {variant} did not pass the ping health check. Please check "
        "CloudWatch logs for this endpoint."
    )
    return f"{told} Its last line is: {last_line}" if last_line else told
