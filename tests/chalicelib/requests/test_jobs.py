"""Requests to SageMaker hold by its own service model: members, types, enums, patterns, minima and maxima."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import InvalidRecipe
from chalicelib.recipes.resolving import Recipe, resolve_recipe
from chalicelib.requests.jobs import build_training_request, build_tuning_request
from chalicelib.requests.serving import build_config_request, build_endpoint_request, build_model_request
from chalicelib.runs.identity import Run, make_endpoint_name, make_run_id
from chalicelib.runs.tags import make_tag_value
from chalicelib.settings import Settings
from tests.fakes.world import BUCKET, SETTINGS

MODEL = botocore.session.get_session().get_service_model("sagemaker")


def make_run(dataset: str = "dogs") -> Run:
    run_id = make_run_id(SETTINGS, dataset, "v1", 1)
    return Run(
        run_id=run_id,
        dataset=dataset,
        bucket=BUCKET,
        key=f"datasets/{dataset}.zip",
        version="v1",
        etag='"e"',
        size=1,
        attempt=1,
        created_at="2026-11-22T00:00:00.000+00:00",
        endpoint=make_endpoint_name(SETTINGS, dataset),
        code_uri=SETTINGS.code_uri,
        source={},
    )


def find_faults(operation: str, request: dict[str, Any]) -> list[str]:
    """What SageMaker would have against a request."""
    shape = MODEL.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    return ([report.generate_report()] if report.has_errors() else []) + list(walk(shape, request, operation))


def walk(shape: Shape, value: Any, path: str) -> Any:
    """Enums, patterns and maxima, which botocore leaves alone. Patterns of Unicode classes are not Python's."""
    limit, pattern = shape.metadata.get("max"), shape.metadata.get("pattern")
    if shape.type_name == "structure":
        for name, each in value.items():
            yield from walk(shape.members[name], each, f"{path}.{name}")
    elif shape.type_name in ("list", "map"):
        items = value.items() if shape.type_name == "map" else enumerate(value)
        for key, each in items:
            yield from walk(shape.value if shape.type_name == "map" else shape.member, each, f"{path}[{key}]")
        if shape.type_name == "map":
            for key in value:
                yield from walk(shape.key, key, f"{path}({key})")
    if limit is not None and (len(value) if hasattr(value, "__len__") else value) > limit:
        yield f"{path}: {value!r} is over {limit}"
    if getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"
    if pattern and "\\p{" not in pattern and not re.fullmatch(pattern, value):
        yield f"{path}: {value!r} does not match {pattern}"


def build_all(run: Run, recipe: Recipe, settings: Settings = SETTINGS) -> dict[str, dict[str, Any]]:
    best = {"learning_rate": "1.0", "_tuning_objective_metric": "valid:score"}
    return {
        "CreateHyperParameterTuningJob": build_tuning_request(run, recipe, settings),
        "CreateTrainingJob": build_training_request(run, recipe, settings, best),
        "CreateModel": build_model_request(
            run, recipe, settings, f"{run.uri}output/x/output/model.tar.gz", "https://b.s3.amazonaws.com"
        ),
        "CreateEndpointConfig": build_config_request(run, recipe, settings),
        "CreateEndpoint": build_endpoint_request(run, settings),
    }


KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MACHINES = st.lists(
    st.sampled_from(["ml.g4dn.xlarge", "ml.g5.2xlarge", "ml.g6.xlarge", "ml.m5.xlarge", "ml.r5d.large"]),
    min_size=1,
    max_size=5,
    unique=True,
)
SPAN = st.tuples(st.floats(1e-3, 1.0), st.floats(1.01, 100.0)).map(lambda ends: {"min": ends[0], "max": ends[1]})
DECAY = st.tuples(st.floats(1e-9, 1e-3), st.floats(2e-3, 1.0)).map(lambda ends: {"min": ends[0], "max": ends[1]})


def list_of(values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=most, unique=True)


def values_of(low: float, high: float) -> st.SearchStrategy[Any]:
    return list_of(st.floats(low, high)).map(lambda values: {"values": values})


RANGES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": SPAN | values_of(1e-3, 10),
        "weight_decay": DECAY | values_of(1e-9, 1),
        "batch_size": list_of(st.integers(1, 512)),
        "fine_tune": list_of(st.sampled_from(["head", "last_block", "all"])),
    },
)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.integers(16, 1024),
        "epochs": st.integers(3, 1000),
        "seed": st.integers(0, 2**31 - 1),
        "objective": st.sampled_from(["score", "accuracy", "macro_f1"]),
        "strategy": st.sampled_from(["Bayesian", "Random", "Grid", "Hyperband"]),
        "pretrained": st.sampled_from(["auto", "imagenet", "none"]),
        "batch_norm": st.sampled_from(["auto", "keep", "learn"]),
        "early_stopping": st.sampled_from(["Off", "Auto"]),
        "trials": st.integers(1, 750),
        "parallel_trials": st.integers(1, 100),
        "ranges": RANGES,
        "endpoint": st.sampled_from(
            [{"kind": "serverless", "memory_mb": 2048}, {"kind": "instance", "min_instances": 2}, {}]
        ),
    },
)


ACCOUNTS = st.builds(
    lambda network, **given: replace(SETTINGS, **given, subnet_ids=network[0], security_group_ids=network[1]),
    network=st.sampled_from([((), ()), (("subnet-1", "subnet-2"), ("sg-1",))]),
    use_spot=st.booleans(),
    kms_key_arn=st.sampled_from(["", KEY]),
    cost_tags=st.sampled_from([{}, {"team": "vision", "cost centre": "7"}]),
    trial_instance_types=st.sampled_from([("ml.m5.xlarge",), ("ml.g4dn.xlarge", "ml.g5.xlarge")]),
    weights_uri=st.sampled_from(["", f"s3://{BUCKET}/weights/"]),
)


@settings(max_examples=60, deadline=None)
@given(
    document=RECIPES,
    dataset=st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=300),
    account=ACCOUNTS,
)
def test_every_recipe_makes_valid_requests(document: dict[str, Any], dataset: str, account: Settings) -> None:
    """What resolve_recipe lets through, SageMaker does, whatever the dataset is called, and however the app is set.

    tests/contracts/test_requests.py asks the same of far more recipes.
    """
    try:
        recipe = resolve_recipe(document, in_vpc=account.in_vpc)
    except InvalidRecipe:
        return
    for operation, request in build_all(make_run(dataset), recipe, account).items():
        assert find_faults(operation, request) == [], operation


def tuning(document: dict[str, Any]) -> dict[str, Any]:
    return build_tuning_request(make_run(), resolve_recipe(document), SETTINGS)


def list_ranges(request: dict[str, Any]) -> dict[str, Any]:
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    return {each["Name"]: each for found in ranges.values() for each in found}


def test_the_defaults_tune_four_hyperparameters() -> None:
    """Bayesian, two of them on a logarithmic scale, and values without an exponent."""
    request = tuning({})
    ranges = list_ranges(request)
    assert request["HyperParameterTuningJobConfig"]["Strategy"] == "Bayesian"
    assert set(ranges) == {"learning_rate", "weight_decay", "batch_size", "fine_tune"}
    assert (ranges["weight_decay"]["MinValue"], ranges["weight_decay"]["ScalingType"]) == ("0.00001", "Logarithmic")
    assert ranges["batch_size"]["Values"] == ["16", "32", "64"]
    assert ranges["fine_tune"]["Values"] == ["head", "last_block", "all"]


def test_without_pretrained_weights_the_whole_network_is_trained() -> None:
    """One value is no range: it becomes a fixed hyperparameter."""
    request = tuning({"pretrained": "none"})
    assert "fine_tune" not in list_ranges(request)
    assert request["TrainingJobDefinition"]["StaticHyperParameters"]["fine_tune"] == "all"


def test_a_tuning_job_always_has_a_range() -> None:
    """Where every hyperparameter has one value, one of them stays a range of it."""
    fixed = {"values": [1.0]}
    ranges = {"learning_rate": fixed, "weight_decay": fixed, "batch_size": [16], "fine_tune": ["all"]}
    assert list_ranges(tuning({"ranges": ranges, "trials": 1}))["batch_size"]["Values"] == ["16"]


def test_hyperband_counts_epochs() -> None:
    """Its resource is an epoch, and SageMaker's own early stopping is off."""
    config = tuning({"strategy": "Hyperband", "epochs": 9})["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"] == {"MinResource": 1, "MaxResource": 9}
    assert config["TrainingJobEarlyStoppingType"] == "Off"


@pytest.mark.parametrize("objective", ["score", "accuracy", "macro_f1"])
def test_the_objective_is_read_from_the_log(objective: str) -> None:
    """Its metric is defined, and the regex takes its value, and no other metric's, from the line that a job prints."""
    request = tuning({"objective": objective})
    wanted = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    line = "epoch=3 train:loss=0.12 train:accuracy=0.97 valid:loss=0.2"
    line += " valid:accuracy=0.95 valid:macro_f1=0.94 valid:score=-1e-3"
    metrics = request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    [regex] = [metric["Regex"] for metric in metrics if metric["Name"] == wanted]
    expected = {"score": "-1e-3", "accuracy": "0.95", "macro_f1": "0.94"}[objective]
    assert re.findall(regex, line) == [expected]


def test_every_prefix_ends_in_a_slash() -> None:
    """A prefix without one would pull its siblings too."""
    run = make_run()
    for job in (tuning({})["TrainingJobDefinition"], build_all(run, resolve_recipe({}))["CreateTrainingJob"]):
        uris = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in job["InputDataConfig"]]
        assert [*uris, job["CheckpointConfig"]["S3Uri"]] == [f"{run.uri}input/", f"{run.uri}jobs/"]


def test_every_endpoints_variant_has_the_stages_name() -> None:
    """One alarm asks for the metrics of all of them by it."""
    (variant,) = build_all(make_run(), resolve_recipe({}))["CreateEndpointConfig"]["ProductionVariants"]
    assert variant["VariantName"] == f"{SETTINGS.app_name}-{SETTINGS.stage}"


def test_script_mode_is_told_in_json() -> None:
    """The toolkit decodes its own hyperparameters as JSON; ours are plain texts."""
    asked = tuning({})["TrainingJobDefinition"]["StaticHyperParameters"]
    assert json.loads(asked["sagemaker_program"]) == "train.py"
    assert json.loads(asked["sagemaker_submit_directory"]) == SETTINGS.code_uri
    assert asked["profile"] == "false"


def test_only_the_last_training_is_told_which_rules_may_end_it() -> None:
    """As JSON, which the program reads; a recipe that names none adds no hyperparameter."""
    run, recipe = make_run(), resolve_recipe({"stop_on_rules": ["DeadRelu", "Overfit"]})
    requests = build_all(run, recipe)
    asked = requests["CreateTrainingJob"]["HyperParameters"]
    assert json.loads(asked["stop_on_rules"]) == ["DeadRelu", "Overfit"]
    assert (
        "stop_on_rules" not in tuning({"stop_on_rules": ["Overfit"]})["TrainingJobDefinition"]["StaticHyperParameters"]
    )
    assert "stop_on_rules" not in build_all(run, resolve_recipe({}))["CreateTrainingJob"]["HyperParameters"]


def test_what_is_off_adds_no_hyperparameter() -> None:
    """SageMaker starts a tuning warm only if both have the same ones, and only the final training refits."""
    run, recipe = make_run(), resolve_recipe({"mixup": 0.2, "cutmix": 1, "refit": True})
    trials = tuning({"mixup": 0.2, "cutmix": 1, "refit": True})["TrainingJobDefinition"]["StaticHyperParameters"]
    final = build_all(run, recipe)["CreateTrainingJob"]["HyperParameters"]
    assert [trials["mixup"], trials["cutmix"], final["mixup"], final["refit"]] == ["0.2", "1", "0.2", "true"]
    assert "refit" not in trials
    assert (
        not {"mixup", "cutmix", "refit"}
        & build_all(run, resolve_recipe({}))["CreateTrainingJob"]["HyperParameters"].keys()
    )


def test_both_jobs_read_the_dataset_as_the_recipe_says() -> None:
    """What pre-flight was told about levels, labels, groups, litter and names goes to every job; defaults do not."""
    said = {
        "class_level": 2,
        "labels": "{label}_#.jpg",
        "group": "{group}_*",
        "ignore": ["masks", "größe"],
        "name_encoding": "cp932",
    }
    wanted = {**said, "class_level": "2", "ignore": '["masks", "größe"]'}
    requests = build_all(make_run(), resolve_recipe(said))
    for asked in (
        requests["CreateTrainingJob"]["HyperParameters"],
        requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]["StaticHyperParameters"],
    ):
        assert {name: asked[name] for name in wanted} == wanted
    assert not set(wanted) & set(build_all(make_run(), resolve_recipe({}))["CreateTrainingJob"]["HyperParameters"])


@given(st.text(max_size=400))
def test_tags_hold_what_tags_may(name: str) -> None:
    """Letters, digits, spaces and a few signs, at most 256."""
    value = make_tag_value(name)
    assert len(value) <= 256
    assert not re.search(r"[()&%#!]", value)
