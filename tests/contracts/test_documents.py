"""What the pages for readers and developers name is there: paths, links, commands, benchmarks, the licence.

The commands themselves are run by tests/end_to_end/test_documentation.py.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import NAMES
from tests.support.logs import LogReader

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted({*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *PROJECT.glob("*/README.md")})
CONTRIBUTING = PROJECT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")
NAMED_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|json|toml|yaml))`")
NAMED_MODULE = re.compile(r"python -m ([\w.]+)")
HELPERS = {"local.draw_demo", "local.small_jobs", "training.pretrain", "training.photos"}  # benchmarks' own tools
HELPERS |= {
    f"judging.{name}" for name in ("toys", "sets", "faults", "comparison", "heads")
}  # what judgements are tried on
HELPERS |= {f"peers.{name}" for name in ("course", "options", "reference", "fastai_program", "ultralytics_program")}
HELPERS |= {"judging.strategies"}  # an hour long, so it runs alone
HELPERS |= {f"serving.{name}" for name in ("archive", "endpoint", "generator", "litserve_program", "servers")}


def list_commands(page: Path) -> list[str]:
    """List the commands of a page's shell blocks, continued lines joined, comments left out."""
    text = "\n".join(BLOCK.findall(page.read_text())).replace("\\\n", " ")
    lines = (re.sub(r"\s+#\s.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


MAKE = sorted({command for page in PAGES for command in list_commands(page) if command.startswith("make")})


def name_page(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_what_the_pages_name(command: str) -> None:
    """Each target exists, and ONLY names tests; what a target does is covered by the rest of the suite."""
    done = subprocess.run(["make", "-n", *command.split()[1:]], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    only = re.search(r"ONLY=(\S+)", command)
    assert not only or (PROJECT / "tests" / only[1]).exists()


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link names a file or a folder of the repository."""
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("path", sorted(set(NAMED_PATH.findall(CONTRIBUTING.read_text()))))
def test_paths_that_a_developer_is_sent_to_exist(path: str) -> None:
    """Every file and folder that CONTRIBUTING.md names exists; FUNCTION stands for any function's name."""
    assert list(PROJECT.glob(path.replace("FUNCTION", "*")))


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_modules_that_pages_run_exist(page: Path) -> None:
    """What a page starts with `python -m` can be found; ROOM and NAME stand for any benchmark's."""
    text = page.read_text().replace("benchmarks.ROOM.NAME", "benchmarks.results")
    assert [name for name in NAMED_MODULE.findall(text) if importlib.util.find_spec(name) is None] == []


def test_commits_are_checked_by_what_lint_runs() -> None:
    """The hooks of pre-commit are the commands of `make lint`, on this machine's own tools: nothing is downloaded."""
    repositories = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    printed = subprocess.run(["make", "-n", "lint"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert [hook["entry"] for hook in hooks] == re.findall(
        r"^\.venv/bin/ruff [^|\n]*?(?= *\|\||$)", printed, re.MULTILINE
    )


def test_the_licence_is_the_one_that_the_project_names() -> None:
    """pyproject.toml names Apache-2.0, whose text lies beside it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "Apache License\n                           Version 2.0" in (PROJECT / "LICENSE").read_text()


def test_every_benchmark_is_run_and_described() -> None:
    """`python -m benchmarks` runs each module with a claim, and benchmarks/README.md has a row for each."""
    files = (path.relative_to(PROJECT / "benchmarks").with_suffix("") for path in PROJECT.glob("benchmarks/*/*.py"))
    found = {".".join(path.parts) for path in files if path.name != "__init__"}
    assert set(NAMES) == found - HELPERS
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", (PROJECT / "benchmarks/README.md").read_text(), re.MULTILINE)) == set(
        NAMES
    )


def test_programs_that_benchmarks_start_import_what_exists() -> None:
    """Benchmarks also import in programs that they start as text, which no linter reads."""
    pattern = re.compile(
        r"^(?:from|import) ((?:app|chalicelib|localcloud|infrastructure|benchmarks|tests)[\w.]*)", re.MULTILINE
    )
    named = {name for path in PROJECT.glob("benchmarks/**/*.py") for name in pattern.findall(path.read_text())}
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


def test_logs_are_followed_line_by_line(tmp_path: Path) -> None:
    """LOGS=1 shows each whole line once, under its job's or its file's name, as files appear and grow."""
    reader, log = LogReader(tmp_path), tmp_path / "jobs" / "digits-1" / "log.txt"
    assert list(reader.read_new_lines()) == []
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\nepo")
    (tmp_path / "functions.log").write_text("START\n")
    assert list(reader.read_new_lines()) == ["functions | START", "digits-1 | epoch 1"]
    with log.open("a") as file:
        file.write("ch 2\n")
    assert list(reader.read_new_lines()) == ["digits-1 | epoch 2"]
