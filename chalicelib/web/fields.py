"""Build the schemas of single members: each has a type, a description and an example."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def field(kind: str, description: str, example: Any, **more: Any) -> Schema:
    """Return the schema of a member; a kind that ends in `?` may also be null."""
    found: Any = [kind[:-1], "null"] if kind.endswith("?") else kind
    return {"type": found, "description": description, "examples": [example], **more}


def text(description: str, example: str | None, *, null: bool = False, **more: Any) -> Schema:
    return field("string?" if null else "string", description, example, **more)


def number(description: str, example: float | None, *, null: bool = False, whole: bool = False) -> Schema:
    return field(("integer" if whole else "number") + ("?" if null else ""), description, example)


def time(description: str, *, null: bool = False) -> Schema:
    return text(description, "2026-11-27T10:15:00+00:00", null=null, format="date-time")


def anything(description: str, example: dict[str, Any] | None = None, *, null: bool = False) -> Schema:
    """Return the schema of an object whose members depend on the run."""
    return field("object?" if null else "object", description, example or {}, additionalProperties=True)


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def many(name: str, description: str) -> Schema:
    return {"type": "array", "items": reference(name), "description": description, "examples": [[]]}


def texts(description: str, example: list[str]) -> Schema:
    return field("array", description, example, items={"type": "string"})


def thing(description: str, required: str, **members: Schema) -> Schema:
    """Return the schema of an object; readers ignore members that it does not name."""
    return {"type": "object", "description": description, "required": required.split(), "properties": members}
