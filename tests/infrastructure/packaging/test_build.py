"""Test that `make package` writes an archive that runs in a Lambda's interpreter, with the same bytes each time."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infrastructure.errors import CannotPackage
from infrastructure.packaging.archive import pack_zip
from infrastructure.packaging.build import PROJECT, Package, build_package, find_runtime
from infrastructure.packaging.wheels import install_wheels, is_needed, list_services

LAMBDA_ENVIRONMENT = {"AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": "whippet-dev-api", "STAGE": "dev"}
# Only Python's own library and the archive: what an interpreter of Lambda's sees.
ISOLATED = """
import sys
sys.path = [each for each in sys.path if "site-packages" not in each]
sys.path.insert(0, sys.argv[1])
import app, boto3, jsonschema, aws_xray_sdk.core
import chalicelib.web.openapi
for service in sys.argv[2:]:
    boto3.client(service, region_name="us-east-1")
print(*{module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)}, sep="\\n")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build_package(PROJECT, "dev", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(package.code) as archive:
        archive.extractall(folder)
    return folder


def test_the_archive_runs_in_a_lambda(unpacked: Path) -> None:
    """A clean interpreter imports the app and creates every client from the archive alone."""
    services = sorted(list_services(PROJECT / "chalicelib"))
    command = [sys.executable, "-I", "-S", "-c", ISOLATED, str(unpacked), *services]
    done = subprocess.run(command, env=LAMBDA_ENVIRONMENT, capture_output=True, text=True, cwd=unpacked)
    assert done.returncode == 0, done.stderr
    files = done.stdout.splitlines()
    assert str(unpacked / "app.py") in files
    assert not [name for name in files if "site-packages" in name]


def test_the_archive_holds_what_the_app_reads(unpacked: Path) -> None:
    """Every file of chalicelib/ is included, pages and schemas too, and nothing that is shipped elsewhere."""
    theirs = {path.relative_to(PROJECT) for path in (PROJECT / "chalicelib").rglob("*") if path.is_file()}
    missing = {str(path) for path in theirs if "__pycache__" not in path.parts and not (unpacked / path).exists()}
    assert missing == set()
    assert not {"torch", "sagemaker", "training", "localcloud", "infrastructure"} & {p.name for p in unpacked.iterdir()}


def test_the_archive_is_small(package: Package) -> None:
    """It has at most 20 MB, because each cold start downloads it."""
    assert package.code.stat().st_size <= 20_000_000


def test_the_template_names_the_archive_and_its_python(package: Package) -> None:
    """Every function's code is the file beside the template, compiled for the template's Python."""
    template = json.loads(package.template.read_text())
    functions = [each["Properties"] for each in template["Resources"].values() if each["Type"].endswith("::Function")]
    assert {each["CodeUri"] for each in functions} == {f"./{package.code.name}"}
    python, _architecture = find_runtime(template)
    with zipfile.ZipFile(package.code) as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
    assert compiled
    assert all(f"cpython-{python.replace('.', '')}-x86_64" in name or ".abi3." in name for name in compiled)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the command of `make package` where an older archive lies. Returns its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("ordered")
    (folder / "lambda-0000000000000000.zip").write_bytes(b"old")
    command = [sys.executable, "-m", "infrastructure.packaging.build", "--to", str(folder)]
    return folder, subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def test_packing_again_changes_no_byte(package: Package, ordered: tuple[Path, str]) -> None:
    """The same content has the same names, so nothing is uploaded and no function changes without a reason."""
    folder, _ = ordered
    for file in (package.code, package.template, package.source):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_an_older_package_does_not_stay(ordered: tuple[Path, str]) -> None:
    """dist/ keeps one archive of each kind."""
    folder, _ = ordered
    assert len(list(folder.glob("lambda-*.zip"))) == 1


def test_times_and_order_do_not_count() -> None:
    """A zip depends only on its members."""
    assert pack_zip({"a": b"1", "b": b"2"}) == pack_zip({"b": b"2", "a": b"1"})
    assert pack_zip({"a": b"1"}) != pack_zip({"a": b"2"})


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("botocore/data/sagemaker/2017-07-24/service-2.json.gz", True),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", False),
        ("botocore/data/endpoints.json", True),
        ("botocore/docs/docstring.py", True),
        ("jsonschema/tests/test_cli.py", False),
        ("jsonschema-4.26.0.dist-info/METADATA", True),
        ("jsonschema-4.26.0.dist-info/RECORD", False),
        ("bin/jsonschema", False),
        ("dateutil/zoneinfo/dateutil-zoneinfo.tar.gz", False),
    ],
)
def test_what_is_never_read_stays_behind(name: str, needed: bool) -> None:
    """Other services' descriptions, tests and installers' records are left out; package versions stay."""
    assert is_needed(name, {"sagemaker", "s3"}) is needed


def test_a_service_that_is_not_written_out_is_refused(tmp_path: Path) -> None:
    """Its description would be missing, and the Lambda would fail at its first call."""
    (tmp_path / "services.py").write_text("client = clients.connect(name)")
    with pytest.raises(CannotPackage, match=r"services\.py:1"):
        list_services(tmp_path)


def test_a_package_without_a_wheel_is_reported(tmp_path: Path) -> None:
    """The error quotes uv and names the Python and the processor; nothing is compiled."""
    (tmp_path / "requirements.txt").write_text("./no-such-wheel.whl\n")
    with pytest.raises(CannotPackage, match=r"Python 3\.11 on x86_64"):
        install_wheels(tmp_path / "requirements.txt", tmp_path / "out", "3.11", "x86_64")


def test_functions_of_two_pythons_are_refused() -> None:
    """One archive cannot serve both."""

    def function(runtime: str) -> dict[str, Any]:
        return {"Type": "AWS::Serverless::Function", "Properties": {"Runtime": runtime}}

    with pytest.raises(CannotPackage, match=r"python3\.12"):
        find_runtime({"Resources": {"A": function("python3.11"), "B": function("python3.12")}})


def test_the_command_says_what_it_wrote(ordered: tuple[Path, str]) -> None:
    """As called by `make package`, it prints three files with their sizes."""
    folder, printed = ordered
    assert [line.split()[-1] for line in printed.splitlines()] == [
        str(folder / "template.json"),
        *map(str, folder.glob("lambda-*.zip")),
        *map(str, folder.glob("sourcedir-*.tar.gz")),
    ]
