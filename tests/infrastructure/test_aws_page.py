"""docs/aws.md against what it speaks of: messages, parameters and services are those of the commands."""

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
    """Each in the table of parameters, and each that a command sets."""
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
    """Every text in the commands' source."""
    trees = [ast.parse(path.read_text()) for path in (PROJECT / "infrastructure").rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_page_quotes_messages_that_are_printed() -> None:
    """Each in the first column of its last table stands in the source, part by part where values come between."""
    rows = [row.split(" | ")[0] for row in PAGE.partition("| it says | do |")[2].splitlines() if row.startswith("| `")]
    quoted = [part for row in rows for text in re.findall(r"`([^`]+)`", row) for part in text.split("…")]
    parts = [part for part in quoted if len(part.strip(" .:()")) > 3]
    texts = list_texts()
    assert len(parts) > 30
    assert [part for part in parts if not any(part.strip() in text for text in texts)] == []


def list_services() -> Iterator[str]:
    """Every service that the commands ask for a client of."""
    nodes = (
        node for path in (PROJECT / "infrastructure").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
    )
    calls = (node for node in nodes if isinstance(node, ast.Call) and node.args)
    for call in calls:
        asked, first = ast.unparse(call.func), call.args[0]
        if isinstance(first, ast.Constant) and (asked.endswith((".client", "clients")) or asked == "list_by"):
            yield str(first.value)


def test_the_page_names_every_service_that_is_called() -> None:
    """An operator's permissions can be made from it; prices are another command's."""
    services = set(list_services()) - {"pricing"}
    words = set(re.findall(r"[a-z0-9-]+", PAGE.partition("What is called is")[2].partition("## 2")[0]))
    assert {"cloudformation", "service-quotas", "iam", "sagemaker"} <= services
    assert {NAMED_OTHERWISE.get(each, each) for each in services} - words == set()
