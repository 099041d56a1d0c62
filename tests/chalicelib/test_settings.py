"""The functions' environment: every kind of value is read, and all wrong variables are reported at once."""

from __future__ import annotations

import pytest

from chalicelib.errors import InvalidRecipe, InvalidSettings
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.settings import Settings, read_settings
from tests.chalicelib.runs.test_folder import ENVIRONMENT


def read(**variables: str) -> Settings:
    return read_settings(ENVIRONMENT | variables)


def test_what_is_empty_or_not_set_has_its_default() -> None:
    """CloudFormation passes an empty parameter as an empty variable."""
    assert read(TRIAL_INSTANCE_TYPES="", SUBNET_IDS="", COST_TAGS="", USE_SPOT="") == read()
    assert read().trial_instance_types == ("ml.g4dn.xlarge", "ml.g5.xlarge")
    assert (read().use_spot, read().monthly_cap_usd, read().cost_tags, read().in_vpc) == (True, 200.0, {}, False)


def test_every_kind_of_value_is_read() -> None:
    """Comma-separated lists, booleans, amounts, and a JSON object of strings."""
    settings = read(
        TRIAL_INSTANCE_TYPES="ml.m5.xlarge, ml.c5.xlarge",
        USE_SPOT="false",
        MONTHLY_CAP_USD="12.5",
        COST_TAGS='{"team": "vision", "cost centre": "7"}',
        SUBNET_IDS="subnet-1,subnet-2",
        SECURITY_GROUP_IDS="sg-1",
    )
    assert settings.trial_instance_types == ("ml.m5.xlarge", "ml.c5.xlarge")
    assert (settings.use_spot, settings.monthly_cap_usd) == (False, 12.5)
    assert settings.cost_tags == {"team": "vision", "cost centre": "7"}
    assert (settings.subnet_ids, settings.security_group_ids) == (("subnet-1", "subnet-2"), ("sg-1",))
    assert settings.in_vpc


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("USE_SPOT", "yes", "must be true or false"),
        ("MONTHLY_CAP_USD", "-1", "must be a number of 0 or more"),
        ("MONTHLY_CAP_USD", "nan", "must be a number of 0 or more"),
        ("VOLUME_GB", "ten", "must be a whole number"),
        ("COST_TAGS", "team=vision", "must be a JSON object of text"),
        ("COST_TAGS", '{"team": 7}', "must be a JSON object of text"),
        ("COST_TAGS", '{"whippet:run": "x"}', "which are the app's own"),
        ("COST_TAGS", '{"aws:x": "x"}', "which are AWS's own"),
        ("COST_TAGS", '{"a(b)": "x"}', "cannot be a tag"),
        ("TRIAL_INSTANCE_TYPES", "ml.g5.xlarge,ml.m5.xlarge", "list one kind"),
        ("TRAINING_INSTANCE_TYPES", "m5.xlarge", "not an instance type"),
        ("ENDPOINT_INSTANCE_TYPES", "ml.inf1.xlarge", "accelerator"),
        ("SUBNET_IDS", "subnet-1", "go together"),
        ("SECURITY_GROUP_IDS", "sg-1", "go together"),
        ("DEBUGGER_MODE", "on", "must be one of"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(variable: str, text: str, words: str) -> None:
    """The message holds the variable, its value, and what it must be."""
    with pytest.raises(InvalidSettings, match=words) as refusal:
        read(**{variable: text})
    assert variable in refusal.value.message


def test_everything_amiss_is_told_at_once() -> None:
    """Nobody should have to deploy three times to learn of three mistakes."""
    with pytest.raises(InvalidSettings) as refusal:
        read_settings({"USE_SPOT": "no", "VOLUME_GB": "x"})
    assert all(name in refusal.value.message for name in ("BUCKET is not set", "USE_SPOT is 'no'", "VOLUME_GB is 'x'"))


def test_in_a_vpc_no_endpoint_is_serverless() -> None:
    """The default is an instance, and a recipe that insists on serverless is rejected with the reason."""
    assert resolve_recipe(None, in_vpc=True).endpoint.kind == "instance"
    assert resolve_recipe(None).endpoint.kind == "serverless"
    with pytest.raises(InvalidRecipe, match=r"\$\.endpoint\.kind: this app's endpoints are in a VPC"):
        resolve_recipe({"endpoint": {"kind": "serverless"}}, in_vpc=True)
