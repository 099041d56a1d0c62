"""Test the functions' environment against Lambda's limit of 4 KB."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infrastructure.deploying.environment import MOST_BYTES, check_environment, measure, read_variables, resolve
from infrastructure.errors import CannotDeploy
from infrastructure.stack.orders import Order, settle_parameters
from tests.support.template import build_app_template

DIGEST = "@sha256:" + "0" * 64
REGISTRY = "763104351884.dkr.ecr.ap-southeast-1.amazonaws.com"


def settle(**ordered: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the app's template and its parameters, with image URIs of the greatest length."""
    template = build_app_template()
    kinds = {"Training": "pytorch-training", "Inference": "pytorch-inference"}
    images = {
        f"{kind}Image{use}": f"{REGISTRY}/{name}{DIGEST}" for kind, name in kinds.items() for use in ("Cpu", "Gpu")
    }
    return template, settle_parameters(template, Order(), ordered, images)


def make_tags(count: int, characters: int) -> str:
    return json.dumps({f"tag{at:02}": "v" * characters for at in range(count)})


def test_the_environment_of_a_stage_with_a_few_tags_fits() -> None:
    """It fits with images by digest, a VPC, a key and ten tags."""
    check_environment(
        *settle(
            CostTags=make_tags(10, 20),
            SubnetIds="subnet-0123456789abcdef0,subnet-0123456789abcdef1",
            SecurityGroupIds="sg-0123456789abcdef0",
            KmsKeyArn=f"arn:aws:kms:ap-southeast-1:123456789012:key/{'0' * 36}",
            AppName="a" * 12,
            StageName="b" * 8,
        )
    )


def test_tags_that_do_not_fit_are_refused_before_anything_is_made() -> None:
    """The message has both sizes and names the largest variables."""
    with pytest.raises(
        CannotDeploy, match=r"Lambda takes 4,096\. The largest of it: COST_TAGS \(\d,\d{3}\)"
    ) as refused:
        check_environment(*settle(CostTags=make_tags(40, 60)))
    assert "Nothing was made." in str(refused.value)


def test_the_limit_is_that_of_the_text_that_lambda_measures() -> None:
    """The limit holds to the byte, for JSON in which the quotes of the tags' own JSON are escaped."""
    template: dict[str, Any] = {
        "Resources": {
            "F": {
                "Type": "AWS::Serverless::Function",
                "Properties": {"Environment": {"Variables": {"COST_TAGS": {"Ref": "CostTags"}}}},
            }
        }
    }
    fitting = MOST_BYTES - measure({"COST_TAGS": '{"a": ""}'})
    check_environment(template, {"CostTags": json.dumps({"a": "v" * fitting})})
    with pytest.raises(CannotDeploy, match="4,097 bytes"):
        check_environment(template, {"CostTags": json.dumps({"a": "v" * (fitting + 1)})})


def test_a_resource_is_counted_as_long_as_it_may_become() -> None:
    """A resource counts as more than its longest possible name or ARN."""
    prefix, place = f"{'a' * 12}-{'b' * 8}", "ap-southeast-1:123456789012"
    arns = {
        "EXECUTION_ROLE_ARN": f"arn:aws-us-gov:iam::123456789012:role/{prefix}-jobs-ap-southeast-1",
        "TOPIC_ARN": f"arn:aws-us-gov:sns:{place}:{prefix}-notifications",
        "TOKENS_SECRET_ID": f"arn:aws-us-gov:secretsmanager:{place}:secret:{prefix}-tokens-abcdef",
        "BUCKET": f"{prefix}-123456789012-ap-southeast-1",
    }
    variables = read_variables(build_app_template()["Globals"]["Function"])
    for name, arn in arns.items():
        assert len(resolve(variables[name], {})) >= len(arn), name
