"""`make package`: build everything that a deployment sends to AWS, in `dist/`, without AWS and without credentials.

    template.json                 Chalice's part and ours, merged; its functions' code is the archive below
    lambda-HASH.zip               app.py, chalicelib/, Chalice's runtime and the packages of requirements.txt
    sourcedir-HASH.tar.gz         the training and inference programs, which SageMaker runs

The same content gives the same bytes and the same names, whenever and wherever it is packed.

    python -m infrastructure.packaging.build [--stage STAGE] [--to FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure.errors import CannotPackage, OperatorError
from infrastructure.packaging.archive import name_by_content, pack_zip
from infrastructure.packaging.source import NoProgram, write_source
from infrastructure.packaging.wheels import install_wheels, list_services, read_needed

PROJECT = Path(__file__).resolve().parents[2]
FUNCTION = "AWS::Serverless::Function"
LAMBDA_BYTES = 250 << 20  # Lambda's limit for the unzipped code


@dataclass(frozen=True)
class Package:
    """The paths of the three files that were built."""

    template: Path
    code: Path
    source: Path


def build_package(project: Path, stage: str, folder: Path) -> Package:
    """Build a stage's package in a folder. Raises CannotPackage."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("lambda-*.zip"), *folder.glob("sourcedir-*.tar.gz")]:
        old.unlink()
    template = read_template(project, stage, folder)
    code = write_code(project, folder, *find_runtime(template))
    point_functions(template, f"./{code.name}")
    (folder / "template.json").write_text(json.dumps(template, indent=1) + "\n")
    try:
        return Package(folder / "template.json", code, write_source(project, folder))
    except NoProgram as error:
        raise CannotPackage(str(error)) from error


def read_template(project: Path, stage: str, folder: Path) -> dict[str, Any]:
    """Build the stage's template in a separate process, because that imports the app. Raises CannotPackage."""
    path = folder / "template.json"
    command = [sys.executable, "-m", "infrastructure.template.build", "--stage", stage, "--project", str(project)]
    done = subprocess.run([*command, "--to", str(path)], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotPackage(f"The template of stage {stage!r} cannot be built:\n{done.stderr.strip()}")
    template: dict[str, Any] = json.loads(path.read_text())
    return template


def list_functions(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the properties of the template's functions."""
    return (body["Properties"] for body in template["Resources"].values() if body["Type"] == FUNCTION)


def find_runtime(template: dict[str, Any]) -> tuple[str, str]:
    """Return the functions' Python version ("3.11") and processor: the same for all, because they share an archive."""
    runtimes = {(each["Runtime"], *each.get("Architectures", ["x86_64"])) for each in list_functions(template)}
    if len(runtimes) != 1:
        raise CannotPackage(f"The functions run on {sorted(runtimes)}, and one archive can serve but one of them.")
    ((runtime, architecture),) = runtimes
    return runtime.removeprefix("python"), architecture


def point_functions(template: dict[str, Any], uri: Any) -> None:
    """Set where a template's functions find their code: a path beside it, or a bucket and a key."""
    for properties in list_functions(template):
        properties["CodeUri"] = uri


def write_code(project: Path, folder: Path, python: str, architecture: str) -> Path:
    """Write the Lambda's archive to a folder, named by its content; returns its path."""
    with tempfile.TemporaryDirectory() as installed:
        install_wheels(project / "requirements.txt", Path(installed), python, architecture)
        packages = read_needed(Path(installed), list_services(project / "chalicelib"))
    members = packages | read_runtime() | read_app(project)
    if (unzipped := sum(map(len, members.values()))) > LAMBDA_BYTES:
        raise CannotPackage(f"The Lambda's files are {unzipped >> 20} MB unzipped, and Lambda takes 250.")
    packed = pack_zip(members)
    path = folder / name_by_content("lambda", packed, ".zip")
    path.write_bytes(packed)
    return path


def read_app(project: Path) -> dict[str, bytes]:
    """Return app.py and all of chalicelib/, as Chalice ships them: modules, schemas, pages."""
    paths = [project / "app.py", *(project / "chalicelib").rglob("*")]
    shipped = (path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(project)): path.read_bytes() for path in shipped}


def read_runtime() -> dict[str, bytes]:
    """Return the two modules of the installed Chalice that run in the Lambda; they contain no AWS client."""
    import chalice

    home = Path(chalice.__file__).parent
    return {f"chalice/{name}": (home / name).read_bytes() for name in ("__init__.py", "app.py")}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pack the app for AWS.")
    parser.add_argument("--stage", default="dev")
    parser.add_argument("--to", type=Path, default=PROJECT / "dist", metavar="FOLDER")
    told = parser.parse_args(arguments)
    try:
        package = build_package(PROJECT, told.stage, told.to)
    except OperatorError as error:
        print(f"package: {error}", file=sys.stderr)
        return error.exit_code
    for path in (package.template, package.code, package.source):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
