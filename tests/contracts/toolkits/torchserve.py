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
from contextlib import ExitStack
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
default_workers_per_model=1
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
        (folder / "config.properties").write_text(PROPERTIES.format(**ports))
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


def _find_ports(*names: str) -> dict[str, int]:
    """Free ports, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
