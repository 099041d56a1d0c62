"""Read a recipe's bytes as JSON and check it against `schema.json`, with messages for the person who wrote it."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from chalicelib.errors import InvalidRecipe

MAX_BYTES = 64 * 1024
MAX_DEPTH = 20  # the depth that Python can read depends on its version
TEXTS = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)


class Problem(NamedTuple):
    """Something wrong with a recipe: its place as a JSON path, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@cache
def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes. Callers must not change it."""
    return dict(json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8")))


def read_document(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a file's bytes. A UTF-8 byte-order mark is allowed, since some editors write one.

    Raise InvalidRecipe if it is too long, not UTF-8, not JSON, not an object, or has a member twice.
    """
    if len(body) > MAX_BYTES:
        raise _refuse(f"the recipe has {len(body):,} bytes, more than {MAX_BYTES:,}: is this the right file?")
    text = _decode(body)
    if not text.strip():
        raise _refuse("the recipe is empty: delete the file to use the defaults, or write {}.")
    if _measure_depth(text) > MAX_DEPTH:
        raise _refuse("it is nested far too deeply: a recipe has four levels.")
    try:
        document = json.loads(
            text, object_pairs_hook=_refuse_doubles, parse_constant=_refuse_number, parse_int=_read_int
        )
    except json.JSONDecodeError as error:
        raise _refuse(f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except ValueError as error:
        raise _refuse(f"{error}.") from error
    if not isinstance(document, dict):
        raise _refuse(f"a recipe is an object in braces, not {_name_type(document)}.")
    return document


def find_schema_problems(document: Any) -> list[Problem]:
    """List every place where a document violates the schema, in the order of its members."""
    return list(_find_schema_problems(json.dumps(document)))


@lru_cache(maxsize=32)  # each step of a run reads its recipe
def _find_schema_problems(text: str) -> tuple[Problem, ...]:
    from jsonschema import Draft202012Validator  # the import costs 0.2 s, and only a run's first step reads a recipe

    errors = Draft202012Validator(recipe_schema()).iter_errors(json.loads(text))
    return tuple(sorted({problem for error in errors for problem in _explain(error)}))


def _decode(body: bytes) -> str:
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _refuse("the file is UTF-16: save it as UTF-8.")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refuse(f"byte {error.start} is no UTF-8: save the file as UTF-8.") from error


def _measure_depth(text: str) -> int:
    """Return how deep brackets are nested, ignoring those within strings."""
    steps = ({"{": 1, "[": 1, "}": -1, "]": -1}.get(sign, 0) for sign in TEXTS.sub("", text))
    return max(accumulate(steps), default=0)


def _refuse(message: str) -> InvalidRecipe:
    return InvalidRecipe.listing([Problem("$", message)])


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the members {twice} stand there twice, keep one of each")
    return document


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{_show(text)} cannot be used as a number: write a finite and shorter one")


def _read_int(digits: str) -> int:
    """Read an integer. Python refuses more than 4,300 digits with a message for programmers."""
    return int(digits) if len(digits) < 40 else _refuse_number(digits)


def _explain(error: Any) -> Iterator[Problem]:
    """Put one of jsonschema's errors into our words."""
    path, value, rule = error.json_path, error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            for name in sorted(set(value) - set(error.schema["properties"])):
                yield Problem(_join(path, name), _explain_unknown(name, error.schema["properties"]))
        case "enum":
            yield Problem(path, f"{_show(value)} is not served: {_suggest(value, rule)}")
        case "type":
            yield Problem(path, f"must be {_name_rule(rule)}, not {_name_type(value)} {_show(value)}.")
        case "minimum" | "maximum" | "exclusiveMinimum":
            side = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[error.validator]
            yield Problem(path, f"must be {side} {rule}, not {_show(value)}.")
        case "oneOf":
            yield Problem(path, "give either min and max, or values, and not both.")
        case "minItems" | "maxItems":
            side = {"minItems": "at least", "maxItems": "at most"}[error.validator]
            yield Problem(path, f"must list {side} {rule}, not {len(value)}.")
        case "uniqueItems":
            yield Problem(path, f"lists a value twice: {_show(value)}; keep one of each.")
        case "pattern":
            yield Problem(path, _explain_pattern(path, value))
        case _:
            yield Problem(path, f"{error.message}.")


def _explain_pattern(path: str, value: Any) -> str:
    """Say what may stand in a text that has a pattern."""
    match path.partition("[")[0]:
        case "$.labels":
            allowed = "write 'folders', 'file', or a pattern such as '{label}_#.jpg' with '{label}' once and no '/'."
        case "$.group":
            allowed = "write a pattern such as '{group}_*' with '{group}' once and no '/'."
        case "$.ignore":
            allowed = "write the name of a folder or file, or a pattern such as '*_thumb.jpg'."
        case _:
            return f"{_show(value)} is not an instance type: write one such as 'ml.m5.xlarge'."
    return f"{_show(value)} is no pattern that serves: {allowed}"


def _explain_unknown(name: str, known: Mapping[str, Any]) -> str:
    return f"there is no such member: {_suggest(name, known)}"


def _suggest(value: Any, known: Iterable[Any]) -> str:
    names = [str(each) for each in known]
    near = difflib.get_close_matches(str(value), names, n=3)
    if near:
        return "did you mean " + " or ".join(repr(each) for each in near) + "?"
    shown = ", ".join(names[:12])
    return f"choose from {shown}{', …' if len(names) > 12 else '.'}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if name.isidentifier() else f"{path}[{_show(name)}]"


def _name_rule(rule: str) -> str:
    names = {"object": "an object", "array": "a list", "integer": "a whole number", "string": "a text"}
    return {**names, "boolean": "true or false"}.get(rule, f"a {rule}")


def _name_type(value: Any) -> str:
    names = {dict: "the object", list: "the list", str: "the text", bool: "the truth value", type(None): "the value"}
    return names.get(type(value), "the number")


def _show(value: Any) -> str:
    """Show a value in a message: on one line, short, and safe to encode."""
    text = ascii(value) if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
