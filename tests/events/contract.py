"""Load `events/`: its schemas, and its samples by glob, so that each file is a test case."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

EVENTS = Path(__file__).parents[2] / "events"
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in sorted(EVENTS.glob("schemas/*.schema.json"))}


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def samples(verdict: str, schema: str = "*") -> list[Path]:
    """Return the sample files that are `valid` or `invalid`, of one schema or of all."""
    return sorted(EVENTS.glob(f"samples/{verdict}/{schema}/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@cache
def registry() -> Registry:
    documents = [load(path) for path in SCHEMAS.values()]
    return Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in documents)


def complaints(schema: str, document: Any) -> list[str]:
    """Return the schema's complaints about a document, including its JSON texts (a validator ignores those)."""
    definition = load(SCHEMAS[schema])
    validator = Draft202012Validator(definition, registry=registry())
    found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    for member, described in definition.get("properties", {}).items():
        if "contentSchema" in described and not found:
            found += complaints_about_text(described["contentSchema"]["$ref"], document[member])
    return found


def complaints_about_text(reference: str, text: str) -> list[str]:
    try:
        return complaints(reference.removesuffix(".schema.json"), json.loads(text))
    except ValueError as error:
        return [f"not JSON: {error}"]
