"""Draw the table of members in docs/recipes.md from the schema: `python -m tests.support.recipe_table` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chalicelib.recipes.documents import recipe_schema

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BEGIN, END = "<!-- members: begin -->\n", "<!-- members: end -->\n"


def draw_table() -> str:
    rows = "".join(f"| {' | '.join(row)} |\n" for row in list_rows(recipe_schema()["properties"]))
    return f"| member | what may stand there | default | meaning |\n|---|---|---|---|\n{rows}"


def list_rows(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, member in properties.items():
        if "properties" in member and "oneOf" not in member:
            yield f"`{prefix}{name}`", "an object", "", member["description"]
            yield from list_rows(member["properties"], f"{prefix}{name}.")
        else:
            default = f"`{json.dumps(member['default'])}`" if "default" in member else ""
            yield f"`{prefix}{name}`", say_values(member), default, member["description"]


def say_values(member: Mapping[str, Any]) -> str:
    if "oneOf" in member:
        return f'`{{"min": …, "max": …}}` or `{{"values": […]}}`, {say_limits(member["properties"]["min"])}'
    if member["type"] == "array":
        return f"a list of {member['minItems']} to {member['maxItems']}: {say_values(member['items'])}"
    if "enum" in member and len(member["enum"]) > 12:
        return "one of the names below"
    if "enum" in member:
        return ", ".join(f"`{value}`" for value in member["enum"])
    if member["type"] == "boolean":
        return "`true`, `false`"
    return {"integer": "whole number, ", "number": "number, ", "string": "text"}[member["type"]] + say_limits(member)


def say_limits(member: Mapping[str, Any]) -> str:
    if "maximum" not in member:
        return ""
    low = f"more than {member['exclusiveMinimum']}" if "exclusiveMinimum" in member else f"{member['minimum']}"
    return f"{low} to {member['maximum']}"


def list_architectures() -> str:
    return ", ".join(recipe_schema()["properties"]["architecture"]["enum"])


def list_rules() -> str:
    return ", ".join(recipe_schema()["properties"]["stop_on_rules"]["items"]["enum"])


def draw_generated_part() -> str:
    return f"{BEGIN}{draw_table()}\nArchitectures: {list_architectures()}.\n\nRules: {list_rules()}.\n{END}"


def replace_generated_part(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + draw_generated_part() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(replace_generated_part(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
