"""Stock TorchServe over a model directory, configured as AWS's PyTorch image configures it.

AWS's own `serve` writes its configuration below /etc and ends every TorchServe of the machine, so this starts
TorchServe itself, with the same properties and handler. Addresses, for which the image has fixed ones, are loopback's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

START_SECONDS = 150
# The first six lines are AWS's `default-ts.properties`, and the handler is its default one.
PROPERTIES = """\
vmargs=-XX:-UseContainerSupport
enable_envvars_config=true
decode_input_request=false
load_models=ALL
disable_token_authorization=true
enable_model_api=true
default_service_handler=sagemaker_pytorch_serving_container.handler_service:handle
default_response_timeout=60
disable_system_metrics=true
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc_inference}
grpc_management_port={grpc_management}
"""


class TorchServe:
    """A running server: its URL, and a process group of its own, which alone is ended."""

    def __init__(self, programs: Path, model_dir: Path, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it; `programs` are those of the serving environment, all that it writes is below `folder`."""
        ports = _find_ports("inference", "management", "metrics", "grpc_inference", "grpc_management")
        for name in ("store", "temp", "logs"):
            (folder / name).mkdir(parents=True)
        (folder / "config.properties").write_text(PROPERTIES.format(**ports) + _name_workers(environment))
        self.url = f"http://127.0.0.1:{ports['inference']}"
        self.log = folder / "log.txt"
        command = [programs / "torchserve", "--start", "--foreground", "--ncs", "--model-store", folder / "store"]
        command += ["--ts-config", folder / "config.properties", "--models", f"model={model_dir}"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env=_make_environment(programs, model_dir, folder) | dict(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when the worker has loaded the model."""
        deadline = time.monotonic() + START_SECONDS
        while b"WORKER_MODEL_LOADED" not in self.log.read_bytes():
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"TorchServe did not serve within {START_SECONDS} s"
            time.sleep(0.1)
        assert httpx.get(f"{self.url}/ping", timeout=30).status_code == 200

    def count_workers(self) -> int:
        """How many workers hold the model."""
        return self.log.read_bytes().count(b"WORKER_MODEL_LOADED")

    def measure_peak(self) -> int:
        """The megabytes that the server's processes held at most, each at its own worst moment."""
        return sum(_read_peak(each) for each in _list_group(self._process.pid)) // 1024

    def end(self) -> None:
        """SIGTERM to Java and the worker, SIGKILL to what is left after ten seconds."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait(10)


def _make_environment(programs: Path, model_dir: Path, folder: Path) -> dict[str, str]:
    """What the image's `serve` gives to TorchServe, and this folder in place of the places it writes to."""
    java = Path(os.environ.get("JAVA", "/usr/bin/java")).parent
    return {
        "PATH": f"{programs}:{java}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(model_dir / "code"),
        "LOG_LOCATION": str(folder / "logs"),
        "METRICS_LOCATION": str(folder / "logs"),
        "OMP_NUM_THREADS": "1",
        **dict.fromkeys(("TMPDIR", "TEMP"), str(folder / "temp")),
    }


def _name_workers(environment: Mapping[str, str]) -> str:
    """The line that the toolkit adds for this variable; without it TorchServe starts one worker a processor."""
    workers = environment.get("SAGEMAKER_MODEL_SERVER_WORKERS")
    return f"default_workers_per_model={workers}\n" if workers else ""


def _list_group(leader: int) -> list[int]:
    """The processes of a group."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getpgid(int(each.name)) == leader:
                found.append(int(each.name))
    return found


def _read_peak(process: int) -> int:
    """The kilobytes of memory of its own that a process held at most: a file that it maps is not the container's."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) - int(told["RssFile"].split()[0])


def _find_ports(*names: str) -> dict[str, int]:
    """Free ports, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
