"""The event contract: every file below events/ is a test case."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.events.contract import EVENTS, SCHEMAS, complaints, load, name_of, samples


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schema_is_a_schema_under_its_own_name(schema: str) -> None:
    """Each schema is valid under its draft, says its name in $id, and describes itself."""
    document = load(SCHEMAS[schema])
    Draft202012Validator.check_schema(document)
    assert document["$id"].endswith(f"/{schema}.schema.json")
    assert document["title"]
    assert document["description"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schema_has_samples_of_both_kinds(schema: str) -> None:
    """Each schema has a sample that it accepts and one that it rejects."""
    assert samples("valid", schema)
    assert samples("invalid", schema)


@pytest.mark.parametrize("path", samples("valid"), ids=name_of)
def test_valid_sample_passes_its_schema(path: Path) -> None:
    """A sample in valid/ matches its schema."""
    assert complaints(path.parent.name, load(path)) == []


@pytest.mark.parametrize("path", samples("invalid"), ids=name_of)
def test_invalid_sample_breaks_its_schema(path: Path) -> None:
    """A sample in invalid/ does not match its schema."""
    assert complaints(path.parent.name, load(path))


def test_every_file_is_covered() -> None:
    """Every file below events/ is checked by a test, and no sample is without its schema."""
    covered = {*SCHEMAS.values(), *samples("valid"), *samples("invalid"), EVENTS / "README.md"}
    assert {path for path in EVENTS.rglob("*") if path.is_file()} == covered
    assert {path.parent.name for path in [*samples("valid"), *samples("invalid")]} == set(SCHEMAS)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_readme_names_each_schema(schema: str) -> None:
    """The reader of events/README.md learns of every schema."""
    assert f"`{schema}`" in (EVENTS / "README.md").read_text(encoding="utf-8")
