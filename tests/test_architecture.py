"""The architecture's rules, read from the source: what may import what, and what stands nowhere.

Layering that no test enforces is not kept. The rooms and what they may import are the tables of docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from chalicelib import errors
from docs.drawing.errors import ERRORS_PAGE, list_errors, write_errors
from docs.drawing.svg import draw
from docs.drawing.tables import PAGE, Room, list_imported, read_rooms, read_steps, read_units

ROOT = Path(__file__).parents[1]
MAX_LINES, MAX_TEST_LINES = 350, 500
MAX_NAMES, MAX_TEST_NAMES = 12, 15
ROOMED = ("chalicelib", "training", "localcloud", "infrastructure")
FLAT = ("training", "inference")  # their folder itself is on the path: its files and rooms are imported by bare name
DECISION = ROOT / "docs" / "decisions" / "0015-rooms.md"


def list_files(unit: str) -> list[Path]:
    """List a unit's Python files."""
    return [ROOT / unit] if unit.endswith(".py") else sorted((ROOT / unit).rglob("*.py"))


SHIPPED = [(unit, path) for unit in read_units() for path in list_files(unit)]
IN_ROOMS = [path for unit, path in SHIPPED if unit in ROOMED and path != ROOT / unit / "__init__.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOURCES = [path for _, path in SHIPPED] + TESTS + sorted((ROOT / "benchmarks").rglob("*.py"))


def label(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def find_modules(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it, by its full name; of `from a import b` both a and a.b."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            base = ".".join(filter(None, [package, node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "load" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)  # what the training program imports late


def find_imports(path: Path) -> set[str]:
    """Return the top packages that a file imports."""
    return {module.partition(".")[0] for module in find_modules(path)}


def find_files(path: Path) -> set[Path]:
    """Return the files of its own unit that a file imports."""
    unit = path.relative_to(ROOT).parts[0]
    base = ROOT / unit if unit in FLAT else ROOT
    named = (base.joinpath(*module.split(".")).with_suffix(".py") for module in find_modules(path))
    return {each for each in named if each.is_file() and unit in each.relative_to(ROOT).parts} - {path}


def find_room(path: Path) -> Room:
    """Return the room that holds a file: the innermost one."""
    name = path.relative_to(ROOT).as_posix()
    return max((room for room in read_rooms() if room.holds(name)), key=lambda room: len(room.path))


def list_allowed(unit: str, path: Path) -> set[str]:
    """Return the packages that a file may import beside Python's own: its unit, its unit's, its room's."""
    given: dict[str, str | None] = dict(read_units()[unit])
    inside = path.relative_to(ROOT / unit).as_posix() if path != ROOT / unit else unit
    allowed = {package for package, file in given.items() if file in (None, inside)}
    if unit in ROOMED and path in IN_ROOMS:
        allowed |= {package for package, file in find_room(path).packages.items() if file in (None, path.name)}
    own = {each.stem for each in (ROOT / unit).iterdir()} if unit in FLAT else {unit}
    return allowed | own | set(sys.stdlib_module_names)


def find_words(path: Path) -> Iterator[str]:
    """Every name, attribute, argument and imported name of a file: no comments, no texts."""
    for node in ast.walk(parse(path)):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.ImportFrom(module=str(word)):
                yield word


@pytest.mark.parametrize(("unit", "path"), SHIPPED, ids=label)
def test_a_file_imports_the_packages_that_the_tables_name(unit: str, path: Path) -> None:
    """A file imports Python's own modules, its unit's, and the packages that the tables give its unit and its room."""
    assert find_imports(path) - list_allowed(unit, path) == set()


@pytest.mark.parametrize("path", IN_ROOMS, ids=label)
def test_a_file_imports_rooms_below_its_own(path: Path) -> None:
    """Every file is in a room of the table, and imports its own room and those that the table lists for it."""
    room = find_room(path)
    allowed = {room.path, *(each.path for each in list_imported(room))}
    assert {find_room(each).path for each in find_files(path)} - allowed == set()


@pytest.mark.parametrize("room", read_rooms(), ids=lambda room: room.path)
def test_every_arrow_of_the_table_goes_down(room: Room) -> None:
    """A room exists, and its row names rooms in rows below it: list_imported raises for any other name."""
    assert room.path not in {each.path for each in list_imported(room)}
    assert any(find_room(path) == room for path in list_files(room.unit) if path in IN_ROOMS)


def test_the_command_needs_no_more_of_the_control_plane_than_its_checks() -> None:
    """`pip install .` brings of chalicelib only what checks a dataset and a recipe, and the errors that these raise."""
    modules = {module for path in list_files("client") for module in find_modules(path)}
    ours = {module for module in modules if module.startswith("chalicelib.")}
    allowed = ("chalicelib.datasets.", "chalicelib.recipes.", "chalicelib.errors")
    assert {module for module in ours if not f"{module}.".startswith(allowed)} == set()


def find_circle(graph: Mapping[Path, set[Path]]) -> list[Path]:
    """Return files that import one another in a circle, or nothing."""
    done: set[Path] = set()

    def walk(path: Path, trail: list[Path]) -> list[Path]:
        if path in trail:
            return trail[trail.index(path) :]
        if path in done:
            return []
        done.add(path)
        return next((found for each in sorted(graph[path]) if (found := walk(each, [*trail, path]))), [])

    return next((found for path in graph if (found := walk(path, []))), [])


@pytest.mark.parametrize("unit", read_units())
def test_no_files_import_one_another_in_a_circle(unit: str) -> None:
    """Neither directly nor through others."""
    assert find_circle({path: find_files(path) for path in list_files(unit)}) == []


def list_names(folder: Path) -> set[str]:
    """List the files and folders in a folder that git knows, without `__init__.py`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", str(folder)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [ROOT / line for line in listed if (ROOT / line).exists()]
    return {path.relative_to(folder).parts[0] for path in paths} - {"__init__.py"}


def list_folders(root: Path) -> list[Path]:
    """List a folder and all folders below it that hold files of the project."""
    names = [root / name for name in sorted(list_names(root))]
    return [root, *(each for path in names if path.is_dir() for each in list_folders(path))]


@pytest.mark.parametrize("root", [*ROOMED, "client", "inference", "benchmarks", "tests"])
def test_a_folder_shows_few_names(root: str) -> None:
    """At most 12 names in a folder that is shipped or of the benchmarks, 15 in one of the tests; results are free."""
    limit = MAX_TEST_NAMES if root == "tests" else MAX_NAMES
    counts = {label(folder): len(list_names(folder)) for folder in list_folders(ROOT / root)}
    assert {name: count for name, count in counts.items() if count > limit and "results" not in name} == {}


@pytest.mark.parametrize("path", IN_ROOMS, ids=label)
def test_a_file_is_not_named_after_its_room(path: Path) -> None:
    """A name does not repeat its room's as a word, unless the decision on rooms lists the file."""
    words = set(re.split(r"[_.]", path.stem))
    allowed = re.findall(r"`([\w/]+\.py)`", DECISION.read_text(encoding="utf-8"))
    assert (
        path.parent.name not in words or path.relative_to(ROOT / path.relative_to(ROOT).parts[0]).as_posix() in allowed
    )


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=label)
def test_a_package_says_what_it_is_for_and_nothing_else(path: Path) -> None:
    """`__init__.py` holds a docstring of one line, or nothing."""
    body = parse(path).body
    docstring = ast.get_docstring(parse(path)) or ""
    assert len(body) <= 1
    assert bool(body) == bool(docstring)
    assert "\n" not in docstring
    assert docstring or path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "benchmarks")


@pytest.mark.parametrize(
    "folder", [each for each in list_folders(ROOT / "tests") if list(each.glob("*.py"))], ids=label
)
def test_every_folder_of_tests_is_a_package(folder: Path) -> None:
    """Two tests of one name in two rooms are two modules."""
    assert (folder / "__init__.py").exists()


def test_rooms_of_flat_units_hide_no_module_of_pythons() -> None:
    """`training/` is on the path: a room called like one of Python's modules would be imported in its place."""
    names = {path.stem for unit in FLAT for path in (ROOT / unit).iterdir()}
    assert names & set(sys.stdlib_module_names) == set()


def test_the_picture_is_drawn_from_the_tables() -> None:
    """docs/architecture.svg is what `python -m docs.drawing` writes, and each step of the data is made in a room."""
    places = {room.path for room in read_rooms()} | set(read_units())
    assert {step.room for step in read_steps()} - places == set()
    assert PAGE.with_suffix(".svg").read_text(encoding="utf-8") == draw()


def test_the_page_of_errors_is_written_from_the_tree() -> None:
    """docs/errors.md is what `python -m docs.drawing` writes, and every error says itself what to do."""
    assert ERRORS_PAGE.read_text(encoding="utf-8") == write_errors()
    kinds = list(list_errors())
    assert len(kinds) == len(read_drawn_errors())
    assert [kind.__name__ for kind in kinds if "remedy" not in vars(kind)] == []


def test_the_table_of_changes_names_files_that_exist() -> None:
    """ "Where do I change" sends nobody to a file that has moved: twelve changes, each with its files."""
    section = PAGE.read_text(encoding="utf-8").partition("## Where do I change")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`([\w/]+(?:\.py|\.json|/))`", section)
    assert len(rows) == 12
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_units_are_found() -> None:
    """Every unit has files, so that no rule holds for want of something to break it."""
    assert [unit for unit in read_units() if not list_files(unit)] == []
    assert {room.unit for room in read_rooms()} == set(ROOMED)


@pytest.mark.parametrize("folder", FLAT)
def test_folders_that_stand_on_the_path_are_no_packages(folder: str) -> None:
    """SageMaker unpacks these folders' contents at the root of its code: the folder itself would not be found there."""
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
    importing = [label(path) for _, path in SHIPPED if {"tests", "benchmarks", "docs"} & find_imports(path)]
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
