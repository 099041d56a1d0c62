"""Every recipe that the schema allows makes requests that the local cloud takes: SageMaker's own service model judges.

Recipes are generated from `schema.json` itself, so a member that is added there is tested here at once.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from chalicelib.errors import InvalidRecipe
from chalicelib.recipes.documents import recipe_schema
from chalicelib.recipes.resolving import Recipe, resolve_recipe
from chalicelib.settings import Settings
from localcloud.protocol.service_model import find_operation, parse_request
from tests.chalicelib.requests.test_jobs import build_all, make_run
from tests.fakes.world import SETTINGS

GPU_TYPES = st.sampled_from(["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.p3.2xlarge", "ml.p4d.24xlarge", "ml.g6.12xlarge"])
CPU_TYPES = st.sampled_from(["ml.m5.large", "ml.m5.xlarge", "ml.c5.2xlarge", "ml.m4.xlarge", "ml.c5.9xlarge"])
INSTANCE_PATTERN = recipe_schema()["properties"]["instance_types"]["properties"]["trial"]["items"]["pattern"]
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NETWORK = {"subnet_ids": ("subnet-0a1b2c3d",), "security_group_ids": ("sg-0a1b2c3d", "sg-4e5f6a7b")}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"use_spot": False, "weights_uri": "s3://whippet-bucket/weights/"},
    {"kms_key_arn": KEY, "cost_tags": {f"team-{number}": "x" * 256 for number in range(40)}},
    {"debugger_mode": "full", "debugger_rules_image": "1.dkr.ecr.us-east-1.amazonaws.com/rules:latest"},
    NETWORK | {"kms_key_arn": KEY, "debugger_mode": "monitoring"},
)


def generate(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, of the keywords that `schema.json` uses."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum"))
            return st.floats(low, schema["maximum"], exclude_min="exclusiveMinimum" in schema)
        case "string":
            return st.from_regex(re.compile(schema["pattern"], re.ASCII), fullmatch=True)
        case "array":
            return generate_list(schema)
        case "object":
            return generate_object(schema)
    raise NotImplementedError(schema)


def generate_list(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Lists, short ones mostly; of machines such as AWS has, for requests name them."""
    sizes = {"min_size": schema["minItems"], "max_size": min(schema["maxItems"], 5), "unique": True}
    if schema["items"].get("pattern") == INSTANCE_PATTERN:
        return st.one_of(st.lists(GPU_TYPES, **sizes), st.lists(CPU_TYPES, **sizes))
    return st.lists(generate(schema["items"]), **sizes)


def generate_object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Objects of any of the members, or of one of the shapes that `oneOf` names."""
    members = {name: generate(each) for name, each in schema["properties"].items() if name != "$schema"}
    if "oneOf" not in schema:
        return st.fixed_dictionaries({}, optional=members)
    shapes = [each["required"] for each in schema["oneOf"]]
    return st.one_of([st.fixed_dictionaries({name: members[name] for name in shape}) for shape in shapes])


def repair(document: dict[str, Any]) -> dict[str, Any]:
    """A document nearer to the rules between members, lest nearly all that is drawn breaks one of them."""
    for each in document.get("ranges", {}).values():
        if isinstance(each, dict) and "min" in each:
            each["min"], each["max"] = sorted((each["min"], each["max"]))
    if "trials" in document and "parallel_trials" in document:
        document["parallel_trials"] = min(document["trials"], document["parallel_trials"])
    if document.get("strategy") == "Grid":
        document.pop("trials", None)
    return document


RECIPES = generate_object(recipe_schema()).map(repair)


def check_rules_of_aws(requests: dict[str, dict[str, Any]], stage: Settings) -> None:
    """What AWS's documentation says of members together, and no shape can."""
    tuning, training = requests["CreateHyperParameterTuningJob"], requests["CreateTrainingJob"]
    config, definition = tuning["HyperParameterTuningJobConfig"], tuning["TrainingJobDefinition"]
    limits, ranges = config["ResourceLimits"], config["ParameterRanges"]
    assert len(tuning["HyperParameterTuningJobName"]) <= 32
    assert limits["MaxParallelTrainingJobs"] <= limits["MaxNumberOfTrainingJobs"]
    assert config["Strategy"] != "Hyperband" or config["TrainingJobEarlyStoppingType"] == "Off"
    assert config["Strategy"] != "Grid" or set(ranges) == {"CategoricalParameterRanges"}
    tuned = [each["Name"] for each in chain.from_iterable(ranges.values())]
    assert tuned
    assert not set(tuned) & set(definition["StaticHyperParameters"])
    assert config["HyperParameterTuningJobObjective"]["MetricName"] in {
        each["Name"] for each in definition["AlgorithmSpecification"]["MetricDefinitions"]
    }
    for each in ranges.get("ContinuousParameterRanges", []):
        assert 0 < float(each["MinValue"]) < float(each["MaxValue"])
        assert not re.search("[eE]", each["MinValue"] + each["MaxValue"])
    assert not {"DebugHookConfig", "ProfilerConfig", "TensorBoardOutputConfig"} & set(definition)
    for job in (definition, training):
        check_job(job, stage)
    check_config(requests["CreateEndpointConfig"], stage)


def check_job(job: dict[str, Any], stage: Settings) -> None:
    """A spot job waits at least as long as it may run; prefixes end in a slash; a VPC holds every job or none."""
    stopping = job["StoppingCondition"]
    assert bool(job.get("EnableManagedSpotTraining")) == ("MaxWaitTimeInSeconds" in stopping)
    assert stopping.get("MaxWaitTimeInSeconds", 10**9) >= stopping["MaxRuntimeInSeconds"]
    assert job["CheckpointConfig"]["S3Uri"].endswith("/")
    assert all(channel["DataSource"]["S3DataSource"]["S3Uri"].endswith("/") for channel in job["InputDataConfig"])
    assert bool(job.get("VpcConfig")) == stage.in_vpc
    rules = (job.get("DebugRuleConfigurations", []), job.get("ProfilerRuleConfigurations", []))
    assert all(len(each) <= 20 for each in rules)
    given = job.get("StaticHyperParameters") or job["HyperParameters"]
    assert given["max_runtime"] == str(stopping["MaxRuntimeInSeconds"])
    assert len(job["AlgorithmSpecification"]["MetricDefinitions"]) <= 40
    if "HyperParameterTuningResourceConfig" in job:
        assert "ResourceConfig" not in job


def check_config(config: dict[str, Any], stage: Settings) -> None:
    """A variant is serverless or on machines, never both, and never serverless in a VPC."""
    for variant in config["ProductionVariants"]:
        assert ("ServerlessConfig" in variant) != ("InstanceType" in variant)
        assert ("InstanceType" in variant) == ("InitialInstanceCount" in variant)
        assert not (stage.in_vpc and "ServerlessConfig" in variant)
        if "ServerlessConfig" in variant:
            assert not {"KmsKeyId"} & set(config)
            assert not {"VolumeSizeInGB", "ContainerStartupHealthCheckTimeoutInSeconds"} & set(variant)


def resolve(document: dict[str, Any], stage: Settings) -> Recipe:
    """The recipe of a document, or another draw where the document breaks a rule."""
    try:
        return resolve_recipe(document, in_vpc=stage.in_vpc)
    except InvalidRecipe:
        assume(False)
        raise


@settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink]
)
@given(RECIPES, st.sampled_from(VARIANTS), st.text(min_size=1, max_size=40))
def test_every_recipe_makes_requests_that_sagemaker_takes(
    document: dict[str, Any], variant: dict[str, Any], dataset: str
) -> None:
    """Members, types, enums, patterns, minima and maxima, and rules between members, under any settings of a stage."""
    stage = replace(SETTINGS, **variant)
    recipe = resolve(document, stage)
    requests = build_all(make_run(dataset), recipe, stage)
    for operation, request in requests.items():
        parse_request(find_operation("sagemaker", operation), request)
    check_rules_of_aws(requests, stage)
