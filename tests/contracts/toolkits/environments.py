"""Small environments for AWS's own toolkits, below .venv-contracts/, built once and again when their pins change.

Each holds a toolkit and what it needs, exactly pinned. The rest is taken from the environment that runs the tests,
through a .pth file: torch, torchvision and Pillow, which are large, and results are compared that only the same torch
can give. `serving` has the torch of AWS's image, and so CUDA libraries of its own. What the toolkit's own environment
holds comes first on the path.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[2] / ".venv-contracts"


def build_environment(name: str, requirements: Path = HERE) -> Path:
    """Build the environment of `requirements-NAME.txt` unless it is up to date. Returns the folder of its programs."""
    pins = requirements / f"requirements-{name}.txt"
    environment = FOLDER / name
    mark = environment / ".built-for"
    wanted = hashlib.sha256(pins.read_bytes() + f"{sys.executable} {sys.version}".encode()).hexdigest()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != wanted:
            _build(environment, pins)
            mark.write_text(wanted)
    return environment / "bin"


def _build(environment: Path, pins: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else shutil.which("uv")
    if program is None:
        raise FileNotFoundError("uv is needed to build the toolkits' environments: run `make install`")
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([program, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = str(environment / "bin" / "python")
    subprocess.run([program, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, str(pins)], check=True)
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "main-environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
