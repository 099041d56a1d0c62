"""The architecture's rules, read from the source: what may import what, and what stands nowhere.

Layering that no test enforces is not kept. The table is that of docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from chalicelib import errors

ROOT = Path(__file__).parents[1]
MAX_LINES = 350
MAX_TEST_LINES = 500


@dataclass(frozen=True)
class Unit:
    """What is shipped as one: its files, and the packages that these may import beside Python's own.

    `only_in` names packages that one file alone may import. A flat unit's folder is itself on the path: its files and
    folders are seen by name.
    """

    pattern: str
    allowed: set[str]
    only_in: dict[str, set[str]] = field(default_factory=dict)
    is_flat: bool = False

    def files(self) -> list[Path]:
        return sorted(ROOT.glob(self.pattern))

    def allowed_in(self, path: Path) -> set[str]:
        siblings = {each.stem for each in (ROOT / path.relative_to(ROOT).parts[0]).iterdir()} if self.is_flat else set()
        return (
            self.allowed
            | self.only_in.get(path.relative_to(ROOT).as_posix().partition("/")[2], set())
            | siblings
            | set(sys.stdlib_module_names)
        )


IMAGE = {"torch", "torchvision", "numpy", "PIL"}
# report/writing.py imports what draws late: a training that cannot have matplotlib goes on without a report.
DRAWN = {f"report/charts/{name}.py": {"matplotlib"} for name in ("curves", "drawing", "matrix")}
# debugger/watch.py alone imports these modules, and in a try; itself it has to work without smdebug.
SMDEBUG = {f"debugger/{name}.py": {"smdebug"} for name in ("hook", "reader", "rules", "loss_rules")}
UNITS = {
    "app": Unit("app.py", {"chalicelib", "chalice", "aws_lambda_powertools"}),
    "chalicelib": Unit(
        "chalicelib/**/*.py",
        {"chalicelib", "aws_lambda_powertools", "jsonschema", "smart_open"},
        {"aws/clients.py": {"boto3", "botocore"}},
    ),
    "training": Unit("training/**/*.py", IMAGE, {**SMDEBUG, **DRAWN, "profiler/recorder.py": {"psutil"}}, is_flat=True),
    "inference": Unit("inference/*.py", IMAGE, {"refusals.py": {"sagemaker_inference"}}, is_flat=True),
    "localcloud": Unit(
        "localcloud/**/*.py",
        {
            "localcloud",
            "starlette",
            "uvicorn",
            "httpx",
            "boto3",
            "botocore",
            "moto",
            "optuna",
            "psutil",
            "rich",
            "chalice",
            "samtranslator",
        },
        {"functions/host.py": {"app"}},
    ),
    "infrastructure": Unit("infrastructure/**/*.py", {"infrastructure", "boto3", "botocore", "chalice", "sagemaker"}),
}
SHIPPED = [(name, path) for name, unit in UNITS.items() for path in unit.files()]
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py"))
SOURCES = [path for _, path in SHIPPED] + TESTS + sorted((ROOT / "benchmarks").rglob("*.py"))


def label(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def find_imports(path: Path) -> Iterator[str]:
    """The top packages that a file imports, wherever in it; a relative import is one of its own package."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if not node.level else path.relative_to(ROOT).parts[0]


def find_words(path: Path) -> Iterator[str]:
    """Every name, attribute, argument and imported name of a file: no comments, no texts."""
    for node in ast.walk(parse(path)):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.ImportFrom(module=str(word)):
                yield word


@pytest.mark.parametrize(("unit", "path"), SHIPPED, ids=label)
def test_unit_imports_what_it_may(unit: str, path: Path) -> None:
    """A file imports Python's own modules, its unit's, and those that the architecture's table names."""
    assert set(find_imports(path)) - UNITS[unit].allowed_in(path) == set()


def test_units_are_found() -> None:
    """Every unit has files, so that no rule holds for want of something to break it."""
    assert [name for name, unit in UNITS.items() if not unit.files()] == []


@pytest.mark.parametrize("folder", ["training", "inference"])
def test_folders_shipped_flat_are_no_packages(folder: str) -> None:
    """SageMaker unpacks these files side by side: a package would not be found there."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_module_can_be_read_in_one_sitting(path: Path) -> None:
    """No module that is shipped is longer than 350 lines, and no test module than 500."""
    limit = MAX_TEST_LINES if path in TESTS else MAX_LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize(("unit", "path"), [each for each in SHIPPED if each[0] != "localcloud"], ids=label)
def test_no_code_asks_whether_it_is_local(unit: str, path: Path) -> None:
    """The same code runs on AWS and here: AWS_ENDPOINT_URL is the seam, and no branch knows where it is."""
    conditions = [node.test for node in ast.walk(parse(path)) if isinstance(node, ast.If | ast.IfExp | ast.While)]
    asked = [
        ast.unparse(part)
        for condition in conditions
        for part in ast.walk(condition)
        if (isinstance(part, ast.Name) and re.search(r"(^|_)local(host|cloud|stack)?(_|$)", part.id, re.IGNORECASE))
        or (isinstance(part, ast.Constant) and part.value in ("local", "localhost", "127.0.0.1"))
        or (isinstance(part, ast.Constant) and str(part.value).startswith("AWS_ENDPOINT_URL"))
    ]
    assert asked == []


@pytest.mark.parametrize("path", TESTS, ids=label)
def test_tests_use_real_things_and_fakes(path: Path) -> None:
    """No mock, no patching of code, no test that is skipped or expected to fail."""
    banned = {"unittest.mock", "mock", "MagicMock", "mocker", "skip", "skipif", "xfail", "importorskip"}
    assert set(find_words(path)) & banned == set()
    calls = {ast.unparse(node.func) for node in ast.walk(parse(path)) if isinstance(node, ast.Call)}
    assert calls & {"monkeypatch.setattr", "monkeypatch.delattr", "monkeypatch.setitem"} == set()


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=label)
def test_tests_say_what_they_state(path: Path) -> None:
    """Each test has a docstring, so that the list of tests reads as a specification."""
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    silent = [each.name for each in functions if each.name.startswith("test_") and not ast.get_docstring(each)]
    assert silent == []


def test_nothing_shipped_knows_the_tests() -> None:
    """Tests and benchmarks import what is shipped, never the other way round."""
    importing = [label(path) for _, path in SHIPPED if {"tests", "benchmarks"} & set(find_imports(path))]
    assert importing == []


def read_drawn_errors() -> dict[str, tuple[str, int]]:
    """The parent and the status of each class in the drawing at the top of errors.py: a child stands further in."""
    drawn: dict[str, tuple[str, int]] = {}
    above = {0: "Exception"}
    for indent, name, status in re.findall(r"^([ │├└─]*)(\w+) +(\d{3})\b", errors.__doc__ or "", re.MULTILINE):
        above[len(indent)] = name
        drawn[name] = (above[max(len(indent) - 4, 0)] if len(indent) > 4 else "Exception", int(status))
    return drawn


def test_error_tree_is_drawn_as_it_is() -> None:
    """The drawing at the top of errors.py has every class, under its parent, with its status."""
    classes = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WhippetError)
    ]
    assert read_drawn_errors() == {kind.__name__: (kind.__mro__[1].__name__, kind.status) for kind in classes}


@pytest.mark.parametrize("path", [path for unit, path in SHIPPED if unit == "chalicelib"], ids=label)
def test_errors_are_defined_in_one_place(path: Path) -> None:
    """Every error class of the control plane stands in errors.py, where each knows its status."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef)
    }
    failing = re.compile(r"(Error|Exception|Warning)$")
    astray = [name for name, names in bases.items() if any(failing.search(base) for base in names)]
    assert path == ROOT / "chalicelib/errors.py" or astray == []


OFFLINE_IMPORT = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen"):
        sys.exit(f"{event} at import: {arguments}")

sys.addaudithook(refuse)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def import_offline(*modules: str) -> set[str]:
    """The packages that are loaded once these modules are imported; fails where one reaches for the network."""
    command = [sys.executable, "-c", OFFLINE_IMPORT, *modules]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_importing_the_app_is_light_and_silent() -> None:
    """`import app` reaches for no network, and loads none of the heavy packages."""
    heavy = {"torch", "torchvision", "sagemaker", "pandas", "numpy", "boto3", "aws_xray_sdk", "jsonschema", "moto"}
    assert import_offline("app") & heavy == set()


def test_importing_any_module_of_the_control_plane_reaches_for_nothing() -> None:
    """No module connects, resolves a name or starts a process while it is imported, and none loads torch."""
    paths = [path.relative_to(ROOT).with_suffix("") for unit, path in SHIPPED if unit == "chalicelib"]
    modules = [".".join(path.parts) for path in paths if path.name != "__init__"]
    assert import_offline(*modules) & {"torch", "sagemaker", "pandas"} == set()
