"""Recipes: defaults, rules between members, every problem at once, and any bytes at all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chalicelib.errors import InvalidRecipe
from chalicelib.recipes.documents import MAX_BYTES, recipe_schema
from chalicelib.recipes.resolving import OF_OTHER_KIND, Choices, LogRange, Ranges, Recipe, parse_recipe, resolve_recipe
from chalicelib.recipes.values import EndpointPlan
from tests.support.recipe_table import PAGE, draw_generated_part

ONE_EACH = {"learning_rate": {"values": [1]}, "weight_decay": {"values": [0.1]}}
SPAN = {"learning_rate": {"min": 1, "max": 2}}
THIRTY = {"values": list(range(1, 31))}


def problems_of(document: Any) -> dict[str, str]:
    """What a document is refused for, by JSON path; nothing where it is accepted."""
    try:
        resolve_recipe(document)
    except InvalidRecipe as refusal:
        return dict(problem.split(": ", 1) for problem in refusal.problems)
    return {}


def refusal_of(body: bytes) -> str:
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(body)
    assert caught.value.status == 422
    return caught.value.message


@pytest.mark.parametrize("document", [None, {}, {"$schema": "https://example.org/recipe.schema.json"}])
def test_an_empty_recipe_is_all_defaults(document: dict[str, Any] | None) -> None:
    """No recipe, an empty one, and one that only names its schema are the defaults."""
    assert resolve_recipe(document) == Recipe()
    assert parse_recipe(json.dumps(document or {}).encode()) == Recipe()


def test_schema_and_recipe_have_the_same_defaults() -> None:
    """Every default that the schema states, given outright, is the default recipe; no member of it is unknown there."""

    def defaults(properties: Mapping[str, Any]) -> dict[str, Any]:
        nested = {name: defaults(each["properties"]) for name, each in properties.items() if "properties" in each}
        return {**nested, **{name: each["default"] for name, each in properties.items() if "default" in each}}

    stated = defaults(recipe_schema()["properties"])
    assert stated["endpoint"] == asdict(Recipe().endpoint)
    for name in OF_OTHER_KIND["serverless"]:
        del stated["endpoint"][name]
    assert resolve_recipe(stated) == Recipe()
    assert {"$schema", *asdict(Recipe())} == {"budget_usd", "$schema", *stated}


def test_schema_is_a_schema_that_describes_every_member() -> None:
    """The schema is valid, lets no unknown member through, and explains each one."""
    Draft202012Validator.check_schema(recipe_schema())

    def walk(schema: Mapping[str, Any]) -> None:
        assert schema["description"]
        assert schema["additionalProperties"] is False
        for member in schema["properties"].values():
            assert member["description"]
            if "properties" in member:
                walk(member)

    walk(recipe_schema())


def test_page_is_up_to_date() -> None:
    """The table in docs/recipes.md is the schema's; `python -m tests.support.recipe_table` rewrites it."""
    assert draw_generated_part() in PAGE.read_text(encoding="utf-8")


def test_example_of_the_page_serves() -> None:
    """The recipe that the page shows is one."""
    example = PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    assert parse_recipe(example.encode()).architecture == "resnet50"


def test_members_replace_defaults() -> None:
    """What is given holds, nested members one by one, and whole floats count as whole numbers."""
    recipe = resolve_recipe(
        {
            "epochs": 4.0,
            "ranges": {"learning_rate": {"min": 1, "max": 2}, "weight_decay": {"values": [0, 0.1][1:]}},
            "endpoint": {"kind": "serverless", "memory_mb": 2048},
            "instance_types": {"trial": ["ml.g5.xlarge", "ml.g4dn.xlarge"]},
            "budget_usd": 2.5,
        }
    )
    assert recipe.epochs == 4
    assert isinstance(recipe.epochs, int)
    assert recipe.ranges == Ranges(learning_rate=LogRange(1.0, 2.0), weight_decay=Choices((0.1,)))
    assert recipe.endpoint.memory_mb == 2048
    assert recipe.endpoint.max_concurrency == 5
    assert recipe.instance_types.trial == ("ml.g5.xlarge", "ml.g4dn.xlarge")
    assert recipe.budget_usd == 2.5


@pytest.mark.parametrize(
    ("document", "member", "expected"),
    [
        ({"trials": 1}, "parallel_trials", 1),
        ({"architecture": "vit_l_16"}, "endpoint", EndpointPlan(memory_mb=5120)),
        ({"image_size": 1024}, "endpoint", EndpointPlan(memory_mb=3072)),
        ({}, "image_size", 224),
        ({"architecture": "efficientnet_b7"}, "image_size", 600),
        ({"architecture": "vit_h_14"}, "image_size", 518),
        ({"architecture": "vit_h_14"}, "endpoint", EndpointPlan(kind="instance")),
        ({"endpoint": {"kind": "instance", "min_instances": 4}}, "endpoint", EndpointPlan("instance", 4, 4)),
        ({"strategy": "Grid"}, "trials", 9),
        ({"strategy": "Grid", "ranges": {"batch_size": [8]}, "pretrained": "none"}, "parallel_trials", 1),
        ({"pretrained": "none"}, "ranges", Ranges(fine_tune=Choices(("all",)))),
        (
            {"ranges": {"learning_rate": {"values": [1]}, "weight_decay": {"values": [0.1]}, "batch_size": [8]}},
            "trials",
            3,
        ),
    ],
)
def test_defaults_that_depend_on_other_members(document: dict[str, Any], member: str, expected: Any) -> None:
    """A default never breaks a rule with what was given."""
    assert getattr(resolve_recipe(document), member) == expected


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([], "$", "must be an object"),
        ({"epoch": 3}, "$.epoch", "did you mean 'epochs'?"),
        ({"labels": "label_#.jpg"}, "$.labels", "'{label}' once"),
        ({"labels": "{label}/*.jpg"}, "$.labels", "no '/'"),
        ({"labels": "{label}_{label}"}, "$.labels", "'{label}' once"),
        ({"labels": "*_*_*_{label}"}, "$.labels", "'{label}' once"),
        ({"group": "patient"}, "$.group", "'{group}_*'"),
        ({"ignore": [""]}, "$.ignore[0]", "'*_thumb.jpg'"),
        ({"ignore": [f"{index:02d}{'x' * 97}" for index in range(20)]}, "$.ignore", "2,0"),
        ({"name_encoding": "cp932x"}, "$.name_encoding", "did you mean 'cp932'"),
        ({"class_level": 4}, "$.class_level", "at most 3"),
        ({"my-note": 3}, "$['my-note']", "no such member"),
        ({"ranges": {"lr": {}}}, "$.ranges.lr", "choose from learning_rate"),
        ({"architecture": "resnet-18"}, "$.architecture", "'resnet18'"),
        ({"architecture": "VGG99" * 99}, "$.architecture", "is not served"),
        ({"trials": "six"}, "$.trials", "must be a whole number, not the text 'six'"),
        ({"trials": True}, "$.trials", "must be a whole number"),
        ({"trials": 0}, "$.trials", "at least 1"),
        ({"epochs": 4.5}, "$.epochs", "must be a whole number"),
        ({"gate": {"min_accuracy": 80}}, "$.gate.min_accuracy", "at most 1, not 80"),
        ({"budget_usd": 0}, "$.budget_usd", "more than 0"),
        ({"ranges": {"batch_size": []}}, "$.ranges.batch_size", "at least 1"),
        ({"ranges": {"batch_size": [16, 16.0]}}, "$.ranges.batch_size", "twice"),
        ({"ranges": {"batch_size": [1]}}, "$.ranges.batch_size[0]", "at least 2"),
        ({"ranges": {"learning_rate": {"min": 1}}}, "$.ranges.learning_rate", "either min and max, or values"),
        ({"ranges": {"learning_rate": {"min": 1, "max": 2, "values": [1]}}}, "$.ranges.learning_rate", "not both"),
        ({"ranges": {"learning_rate": {"min": 1, "values": [1]}}}, "$.ranges.learning_rate", "not both"),
        ({"ranges": {"learning_rate": {"min": 2, "max": 1}}}, "$.ranges.learning_rate", "not less than max"),
        ({"ranges": {"weight_decay": {"min": 0, "max": 0.1}}}, "$.ranges.weight_decay.min", "at least 1e-09"),
        ({"instance_types": {"trial": ["m5.xlarge"]}}, "$.instance_types.trial[0]", "'ml.m5.xlarge'"),
        ({"parallel_trials": 9}, "$.parallel_trials", "more than all 6 trials"),
        ({"strategy": "Hyperband", "early_stopping": "Auto"}, "$.early_stopping", "set it to 'Off'"),
        ({"strategy": "Hyperband", "epochs": 2}, "$.epochs", "at least 3 epochs"),
        (
            {"strategy": "Grid", "ranges": {"learning_rate": {"min": 1, "max": 2}}},
            "$.ranges.learning_rate",
            "listed values",
        ),
        ({"strategy": "Grid", "trials": 5}, "$.trials", "all 9 combinations"),
        (
            {
                "strategy": "Grid",
                "ranges": {"batch_size": [*range(2, 32)], "learning_rate": {"values": [*range(1, 31)]}},
            },
            "$.ranges",
            "2700 combinations",
        ),
        (
            {"trials": 10, "ranges": ONE_EACH},
            "$.trials",
            "9 different trials",
        ),
        ({"pretrained": "none", "ranges": {"fine_tune": ["head", "all"]}}, "$.ranges.fine_tune", "['head']"),
        ({"mixup": 0.2, "ranges": {"fine_tune": ["head"]}}, "$.mixup", "a head alone is trained on features"),
        ({"cutmix": 1, "ranges": {"fine_tune": ["head"]}}, "$.cutmix", "let fine_tune be deeper"),
        ({"mixup": 11}, "$.mixup", "at most 10"),
        ({"refit": True, "instance_count": 2}, "$.refit", "one machine"),
        ({"architecture": "vit_b_16", "image_size": 384}, "$.image_size", "takes images of 224 pixels and no other"),
        ({"architecture": "inception_v3", "image_size": 74}, "$.image_size", "takes images of 75 pixels or more"),
        ({"endpoint": {"kind": "instance", "memory_mb": 2048}}, "$.endpoint.memory_mb", "'instance' endpoint"),
        ({"endpoint": {"memory_mb": 2000}}, "$.endpoint.memory_mb", "choose from 1024"),
        ({"endpoint": {"kind": "serverless", "min_instances": 2}}, "$.endpoint.min_instances", "'serverless'"),
        (
            {"endpoint": {"kind": "instance", "min_instances": 3, "max_instances": 2}},
            "$.endpoint.max_instances",
            "fewer than",
        ),
        ({"architecture": "vit_l_16", "endpoint": {"memory_mb": 3072}}, "$.endpoint.memory_mb", "needs about 4372 MB"),
        ({"architecture": "vit_h_14", "endpoint": {"kind": "serverless"}}, "$.endpoint.kind", "take 'instance'"),
        ({"instance_types": {"trial": ["ml.g5.xlarge", "ml.m5.xlarge"]}}, "$.instance_types.trial", "one kind"),
        ({"instance_types": {"training": ["ml.p3.2xlarge"]}}, "$.instance_types.training", "CUDA does not know"),
        ({"instance_types": {"trial": ["ml.m6g.large"]}}, "$.instance_types.trial", "ARM"),
        ({"instance_types": {"trial": ["ml.trn1.2xlarge"]}}, "$.instance_types.trial", "accelerator"),
        ({"spot": "yes"}, "$.spot", "must be true or false"),
        (
            {"endpoint": {"kind": "serverless"}, "instance_types": {"endpoint": ["ml.m5.large"]}},
            "$.instance_types.endpoint",
            "no machines",
        ),
        ({"max_runtime_seconds": {"tuning": 600}}, "$.max_runtime_seconds.trial", "600 s"),
    ],
)
def test_each_rule_has_its_words(document: Any, path: str, words: str) -> None:
    """A broken rule is told by the member's path, in words that help."""
    problems = problems_of(document)
    assert words in problems.get(path, ""), problems


def test_all_problems_are_told_at_once() -> None:
    """Schema's and rules' problems come in one refusal, and none that a broken member only seems to cause."""
    document = {
        "epoch": 3,
        "trials": "six",
        "parallel_trials": 50,
        "strategy": "Hyperband",
        "early_stopping": "Auto",
        "epochs": 1,
        "ranges": {"learning_rate": {"min": 3, "max": 1}, "weight_decay": {"values": []}},
        "endpoint": {"kind": "serverless", "min_instances": 2},
    }
    assert set(problems_of(document)) == {
        "$.epoch",
        "$.trials",
        "$.early_stopping",
        "$.epochs",
        "$.ranges.learning_rate",
        "$.ranges.weight_decay.values",
        "$.endpoint.min_instances",
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "line 1, column 2"),
        (b'{"epochs": 3,}', "no JSON"),
        (b"architecture: resnet18", "no JSON"),
        (b"[1]", "object in braces"),
        (b"null", "object in braces"),
        ('{"seed": 1}'.encode("utf-16"), "save it as UTF-8"),
        (b'{"seed": "\xe9"}', "byte 10 is no UTF-8"),
        (b'{"seed": 1, "epochs": 2, "seed": 2}', "['seed'] stand there twice"),
        (b'{"ranges": {"batch_size": [8], "batch_size": [9]}}', "twice"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"budget_usd": Infinity}', "Infinity"),
        (b'{"budget_usd": 1e999}', "at most 100000"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "shorter"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "nested"),
        (b"[" * 60_000, "nested"),
        (b'{"seed": "' + b"[" * 60_000 + b'"}', "must be a whole number"),
        (b'{"seed": 1}' + b" " * MAX_BYTES, "65,547 bytes"),
        (b'{"\\ud800": 1}', "no such member"),
    ],
)
def test_files_that_are_no_recipe(body: bytes, words: str) -> None:
    """A file is refused in words that say where and what to do, and that can be sent on."""
    message = refusal_of(body)
    assert words in message
    assert len(message.encode()) < 700


def test_byte_order_mark_is_no_fault() -> None:
    """Some editors write one before the text; it changes nothing."""
    assert parse_recipe(b'\xef\xbb\xbf{"seed": 7}').seed == 7


def test_schema_validator_is_loaded_on_first_use_only() -> None:
    """Importing recipes must not cost every function the import of jsonschema."""
    program = "import sys, chalicelib.recipes.resolving; print('jsonschema' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def valid_or_any(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Mostly what the schema allows, by its keywords, and sometimes anything."""
    return st.one_of(valid(schema), valid(schema), valid(schema), JSON)


def valid(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if schema["type"] == "boolean":
        return st.booleans()
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        return st.fixed_dictionaries({}, optional={n: valid_or_any(each) for n, each in schema["properties"].items()})
    if schema["type"] == "array":
        return st.lists(valid(schema["items"]), min_size=1, max_size=3)
    if schema["type"] == "string":
        return st.just("ml.m5.xlarge")
    low, high = schema.get("minimum", 0.01), schema["maximum"]
    return st.integers(low, min(high, low + 50)) if schema["type"] == "integer" else st.floats(low, high)


@settings(max_examples=60, deadline=None)
@given(st.deferred(lambda: valid_or_any(recipe_schema())))
def test_any_document_resolves_or_is_explained(document: Any) -> None:
    """A document gives a recipe whose own document gives the same recipe, or a list of problems with paths."""
    problems = problems_of(document)
    if problems:
        assert all(path.startswith("$") and words for path, words in problems.items())
        return
    recipe = resolve_recipe(document)
    assert parse_recipe(json.dumps(recipe.as_dict()).encode()) == recipe
    assert recipe.parallel_trials <= recipe.trials


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_recipe_or_refused(body: bytes) -> None:
    """No bytes do more than be refused."""
    with contextlib.suppress(InvalidRecipe):
        assert isinstance(parse_recipe(body), Recipe)
