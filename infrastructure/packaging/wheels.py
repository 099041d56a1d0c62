"""Collect the packages that the Lambda carries: wheels for its Python and processor, without what it never reads.

uv installs them into a folder, for another platform than this one, from the same pinned `requirements.txt` that the
tests use. It takes wheels only, so nothing is ever compiled here for another machine. This takes a second, whereas
Chalice's own dependency builder runs pip, downloads every wheel again, and compiles what has no wheel.

Three quarters of boto3 describe services that the app never calls. The needed services are read from the app's source
(`clients.connect("SERVICE")`), so a new one is included automatically.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from infrastructure.errors import CannotPackage

PLATFORMS = {"x86_64": "x86_64-manylinux2014", "arm64": "aarch64-manylinux2014"}
ALWAYS = {"sts", "xray"}  # botocore's credentials may need sts, the X-Ray SDK's sampling xray
NEVER_READ = re.compile(
    r"(^|/)(tests?|benchmarks|__pycache__|bin|wrapt-stubs)/"
    r"|\.(pyc|pyi|c|h|pxd)$|(^|/)py\.typed$"
    r"|\.dist-info/(?!METADATA$|entry_points\.txt$|licenses/|LICENSE)"
    r"|^boto3/examples/"
    r"|^dateutil/zoneinfo/.*\.tar\.gz$"  # names of time zones: AWS's times are UTC
)
DESCRIBED = re.compile(r"^(?:botocore|boto3)/data/([^/]+)/")


def install_wheels(requirements: Path, folder: Path, python: str, architecture: str) -> None:
    """Install pinned requirements into a folder for Lambda's Python ("3.11"). Raises CannotPackage with uv's words."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    command += ["--python-version", python, "--python-platform", PLATFORMS[architecture]]
    command += ["--target", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotPackage(f"{uv} is not there, which installs the Lambda's packages. Run: make install") from None
    if done.returncode:
        told = f"The packages of {requirements.name} cannot be installed for Python {python} on {architecture}:"
        raise CannotPackage(f"{told}\n{done.stderr.strip()}\nMend what uv names, or reach the registry, and try again.")


def list_services(library: Path) -> set[str]:
    """List the AWS services that the app connects to: each `connect("SERVICE")` in its source.

    Raises CannotPackage for a service that is not a literal, because its description would be missing in the Lambda.
    """
    services = set(ALWAYS)
    for path in sorted(library.rglob("*.py")):
        for call in _find_connects(path):
            argument = call.args[0] if call.args else None
            if not isinstance(argument, ast.Constant):
                raise CannotPackage(f"{path}:{call.lineno} connects to a service that it does not name: write it out.")
            services.add(str(argument.value))
    return services


def _find_connects(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("connect", "clients.connect"):
            yield node


def read_needed(folder: Path, services: set[str]) -> dict[str, bytes]:
    """Return the files that the Lambda reads, by their names in its archive."""
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if is_needed(name, services)}


def is_needed(name: str, services: set[str]) -> bool:
    """Return whether the Lambda reads an installed file."""
    if NEVER_READ.search(name):
        return False
    described = DESCRIBED.match(name)
    return described is None or described[1] in services
