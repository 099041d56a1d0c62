"""AWS's own Debugger: off unless asked for, valid by the service model, and never on a trial."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import smdebug_rulesconfig

from chalicelib.errors import InvalidSettings
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.requests.debugger import COLLECTIONS, PROFILING_INTERVAL_MS, RULES
from chalicelib.requests.jobs import build_training_request, build_tuning_request
from chalicelib.settings import DEBUGGER_MODES, Settings, read_settings
from tests.chalicelib.requests.test_jobs import find_faults, make_run
from tests.fakes.world import SETTINGS

IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
BLOCKS = {"DebugHookConfig", "DebugRuleConfigurations", "ProfilerConfig", "ProfilerRuleConfigurations"}


def configure(mode: str, image: str = IMAGE) -> Settings:
    return dataclasses.replace(SETTINGS, debugger_mode=mode, debugger_rules_image=image)


def build(mode: str, image: str = IMAGE) -> dict[str, Any]:
    request = build_training_request(make_run(), resolve_recipe({}), configure(mode, image), {})
    assert find_faults("CreateTrainingJob", request) == []
    return {name: request[name] for name in BLOCKS & set(request)}


def test_nothing_is_added_unless_it_is_asked_for() -> None:
    """The account's default is off: AWS takes no new customers."""
    assert SETTINGS.debugger_mode == "off"
    assert build("off") == {}


def test_monitoring_profiles_and_reports_and_saves_no_tensors() -> None:
    """SageMaker samples the instance, and its ProfilerReport reads the samples; the hook stays ours."""
    blocks = build("monitoring")
    assert set(blocks) == {"ProfilerConfig", "ProfilerRuleConfigurations"}
    [report] = blocks["ProfilerRuleConfigurations"]
    assert report == {
        "RuleConfigurationName": "ProfilerReport",
        "RuleEvaluatorImage": IMAGE,
        "RuleParameters": {"rule_to_invoke": "ProfilerReport"},
    }
    assert blocks["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == PROFILING_INTERVAL_MS
    assert PROFILING_INTERVAL_MS in (100, 200, 500, 1000, 5000, 60000)


def test_full_adds_the_hook_its_collections_and_every_rule() -> None:
    """Each rule by AWS's name, in the region's image; no more rules of a kind than SageMaker takes."""
    blocks = build("full")
    assert set(blocks) == BLOCKS
    rules = blocks["DebugRuleConfigurations"]
    assert [rule["RuleConfigurationName"] for rule in rules] == list(RULES)
    assert {rule["RuleEvaluatorImage"] for rule in rules} == {IMAGE}
    assert all(rule["RuleParameters"]["rule_to_invoke"] == rule["RuleConfigurationName"] for rule in rules)
    assert len(rules) <= 20
    saved = {each["CollectionName"] for each in blocks["DebugHookConfig"]["CollectionConfigurations"]}
    looked_at = {
        name for rule in rules for name in rule["RuleParameters"].get("collection_names", "").split(",") if name
    }
    assert looked_at <= saved == set(COLLECTIONS)
    assert blocks["DebugHookConfig"]["S3OutputPath"].startswith(make_run().uri)


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_those_of_aws_own_package(name: str) -> None:
    """smdebug-rulesconfig, from which AWS's SDK takes them, makes each under this name."""
    make = getattr(smdebug_rulesconfig, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())
    assert make()["DebugRuleConfiguration"]["RuleParameters"]["rule_to_invoke"] == name


@pytest.mark.parametrize("mode", ["monitoring", "full"])
def test_a_region_without_the_rules_image_does_without_rules(mode: str) -> None:
    """What is sampled and saved is still written; nobody judges it but our own rules."""
    assert (
        set(build(mode, image=""))
        == {
            "monitoring": {"ProfilerConfig"},
            "full": BLOCKS - {"DebugRuleConfigurations", "ProfilerRuleConfigurations"},
        }[mode]
    )


@pytest.mark.parametrize("mode", DEBUGGER_MODES)
def test_a_tuning_job_never_carries_it(mode: str) -> None:
    """SageMaker has no such members in the definition of its children."""
    request = build_tuning_request(make_run(), resolve_recipe({}), configure(mode))
    assert not BLOCKS & set(request["TrainingJobDefinition"])


def test_another_word_for_the_mode_is_refused() -> None:
    """Settings say which words there are."""
    environment = {field.name.upper(): "x" for field in dataclasses.fields(Settings) if field.type == "str"}
    with pytest.raises(InvalidSettings, match=r"DEBUGGER_MODE is 'x', and must be one of .*monitoring"):
        read_settings(environment)
