"""Compare docs/aws.md with the commands' own messages, parameters and services."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "aws.md").read_text()
NAMED_OTHERWISE = {"resourcegroupstaggingapi": "tag"}  # by its permissions


def test_the_page_names_parameters_that_there_are() -> None:
    """Each parameter in the table, or set by a command, exists."""
    known = set(json.loads((PROJECT / "infrastructure/template/resources/parameters.json").read_text())["Parameters"])
    table = PAGE.partition("| parameter | says |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    set_by_commands = {
        name for told in re.findall(r'PARAMETERS="([^"]*)"', PAGE) for name in re.findall(r"(\w+)=", told)
    }
    assert named
    assert (named | set_by_commands) - known == set()


def list_texts() -> list[str]:
    """Return every text in the commands' source."""
    trees = [ast.parse(path.read_text()) for path in (PROJECT / "infrastructure").rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_page_quotes_messages_that_are_printed() -> None:
    """Each message in the last table exists in the source, part by part if it contains values."""
    rows = [row.split(" | ")[0] for row in PAGE.partition("| it says | do |")[2].splitlines() if row.startswith("| `")]
    quoted = [part for row in rows for text in re.findall(r"`([^`]+)`", row) for part in text.split("…")]
    parts = [part for part in quoted if len(part.strip(" .:()")) > 3]
    texts = list_texts()
    assert len(parts) > 30
    assert [part for part in parts if not any(part.strip() in text for text in texts)] == []


def list_services() -> Iterator[str]:
    """Yield every service that the commands create a client for."""
    nodes = (
        node for path in (PROJECT / "infrastructure").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
    )
    calls = (node for node in nodes if isinstance(node, ast.Call) and node.args)
    for call in calls:
        asked, first = ast.unparse(call.func), call.args[0]
        if isinstance(first, ast.Constant) and (asked.endswith((".client", "clients")) or asked == "list_by"):
            yield str(first.value)


def test_the_page_names_every_service_that_is_called() -> None:
    """An operator can derive the needed permissions from it; prices belong to another command."""
    services = set(list_services()) - {"pricing"}
    words = set(re.findall(r"[a-z0-9-]+", PAGE.partition("What is called is")[2].partition("## 2")[0]))
    assert {"cloudformation", "service-quotas", "iam", "sagemaker"} <= services
    assert {NAMED_OTHERWISE.get(each, each) for each in services} - words == set()
