"""Test what an operator may order, and how it becomes the stack's parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import InvalidSettings
from chalicelib.settings import read_settings
from infrastructure.errors import Unusable
from infrastructure.stack.orders import (
    Order,
    check_names,
    check_tags,
    join_orders,
    read_pairs,
    settle_parameters,
    tag_stage,
)

PARAMETERS = Path(__file__).parents[3] / "infrastructure" / "template" / "resources" / "parameters.json"
TEMPLATE: dict[str, Any] = {
    "Parameters": {"AppName": {}, "StageName": {}, "CostTags": {"Default": "{}"}, "Cap": {"Default": 200}, "Image": {}}
}
NAMES = ["dev", "a", "2", "dev2", "dev-2", "Dev", "", "d_v", "a" * 13, "a" * 14, "dév", "dev "]


def is_taken_by_settings(app: str, stage: str) -> bool:
    try:
        read_settings({"APP_NAME": app, "STAGE": stage})
    except InvalidSettings as error:
        return not re.search("APP_NAME|STAGE", str(error))
    return True


def is_taken_by_order(app: str, stage: str) -> bool:
    try:
        check_names(app, stage)
    except Unusable:
        return False
    return True


def is_taken_by_template(app: str, stage: str) -> bool:
    told = json.loads(PARAMETERS.read_text())["Parameters"]
    both = (("AppName", app), ("StageName", stage))
    return all(
        re.fullmatch(told[key]["AllowedPattern"], name) and len(name) <= told[key]["MaxLength"] for key, name in both
    )


@pytest.mark.parametrize("stage", [name for name in NAMES if name.strip() == name and name])
def test_command_and_app_take_the_same_names(stage: str) -> None:
    """A name that the command accepts is accepted by the app when it runs."""
    assert is_taken_by_order("whippet", stage) == is_taken_by_settings("whippet", stage)


@pytest.mark.parametrize("stage", NAMES)
def test_the_template_takes_what_the_command_takes(stage: str) -> None:
    """No change set is refused for a name that the command accepts, and no name has a hyphen."""
    assert is_taken_by_template("whippet", stage) or not is_taken_by_order("whippet", stage)
    assert not (is_taken_by_order("whippet", stage) and "-" in stage)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("A=1 B=2", {"A": "1", "B": "2"}),
        ("A=1,B=2", {"A": "1", "B": "2"}),
        ("Types=ml.g5.xlarge,ml.g6.xlarge Cap=5", {"Types": "ml.g5.xlarge,ml.g6.xlarge", "Cap": "5"}),
        ("Key=arn:aws:kms:x:1:key/a=b", {"Key": "arn:aws:kms:x:1:key/a=b"}),
        ("Empty= B=2", {"Empty": "", "B": "2"}),
    ],
)
def test_pairs_are_parted_by_spaces_or_commas(text: str, pairs: dict[str, str]) -> None:
    """A value may contain commas and equals signs."""
    assert read_pairs(text, "PARAMETERS") == pairs


@pytest.mark.parametrize("tags", [{"aws:x": "1"}, {"whippet:app": "1"}, {"a": "ü?"}, {"a": ""}, {"a" * 129: "1"}])
def test_a_tag_that_cannot_be_is_refused(tags: dict[str, str]) -> None:
    """AWS's own tags, ours, and those that AWS would refuse half-way are refused."""
    with pytest.raises(Unusable, match="TAGS has "):
        check_tags(tags)


def test_an_order_stays_until_another_takes_its_place() -> None:
    """Tags are one parameter; a parameter that the template no longer has is dropped; an unknown new one is refused."""
    order = Order("whippet", "dev", tags={"team": "vision"}, parameters={"Cap": "5"})
    earlier = {"Cap": "100", "Image": "mine", "Gone": "x"}
    assert join_orders(TEMPLATE, order, earlier) == {"Cap": "5", "Image": "mine", "CostTags": '{"team": "vision"}'}
    assert join_orders(TEMPLATE, Order(), earlier) == {"Cap": "100", "Image": "mine"}
    with pytest.raises(Unusable, match=r"The template has no parameter Kap\. It has AppName, Cap"):
        join_orders(TEMPLATE, Order(parameters={"Kap": "5"}), {})


def test_what_is_ordered_wins_over_what_is_found_and_that_over_defaults() -> None:
    """The stage's names come from the command."""
    settled = settle_parameters(TEMPLATE, Order("a", "b"), {"Image": "mine"}, {"Image": "found", "Else": "x"})
    assert settled == {"AppName": "a", "StageName": "b", "CostTags": "{}", "Cap": "200", "Image": "mine"}
    assert settle_parameters(TEMPLATE, Order(), {}, {"Image": "found"})["Image"] == "found"


def test_cost_tags_stand_beside_ours() -> None:
    """They are on the stack, and so on everything in it; an empty parameter means none."""
    assert tag_stage(Order(), '{"team": "vision"}')["team"] == "vision"
    assert tag_stage(Order("a", "b"), "") == {"whippet:app": "a", "whippet:stage": "b"}
