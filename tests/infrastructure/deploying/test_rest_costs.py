"""Test the cost of an idle stage, and what the documentation says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.account.spot_prices import describe_hours
from infrastructure.deploying.rest_costs import count_calls, describe_rest, estimate_rest, read_rest_prices
from tests.support.template import translate_app_template

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs" / "aws.md").read_text()


def list_stack(*leaving_out: str) -> list[dict[str, str]]:
    """The resources of the app's own stack, as CloudFormation lists them."""
    resources = translate_app_template()["Resources"]
    return [
        {"ResourceType": body["Type"], "LogicalResourceId": name}
        for name, body in resources.items()
        if body["Type"] not in leaving_out
    ]


def test_the_page_tells_what_the_stack_costs_at_rest() -> None:
    """The template's resources cost about six dollars, without a VPC's endpoints."""
    items = estimate_rest(list_stack("AWS::EC2::VPCEndpoint"), 0, ["rate(2 minutes)"])
    assert round(sum(item.dollars for item in items)) == 6
    assert "about **6 dollars a month**" in PAGE


def test_vpc_endpoints_cost_by_the_hour_in_each_zone() -> None:
    """They dominate the bill if they are created; S3's is free."""
    with_doors = sum(item.dollars for item in estimate_rest(list_stack(), 2, []))
    without = sum(item.dollars for item in estimate_rest(list_stack("AWS::EC2::VPCEndpoint"), 2, []))
    doors = [each for each in list_stack() if each["ResourceType"] == "AWS::EC2::VPCEndpoint"]
    hour = read_rest_prices()["interface_endpoint_zone_hour"]
    assert with_doors - without == pytest.approx((len(doors) - 1) * 2 * 730 * hour)


@pytest.mark.parametrize(
    ("schedule", "calls"),
    [("rate(2 minutes)", 21_900), ("rate(1 hour)", 730), ("rate(1 day)", 30), ("cron(0 12 * * ? *)", 0)],
)
def test_calls_are_counted_from_the_schedule(schedule: str, calls: int) -> None:
    """An unknown form counts nothing rather than an invented number."""
    assert count_calls(schedule) == calls


def test_the_estimate_says_its_sum_and_its_date() -> None:
    """It also says what it leaves out."""
    lines = describe_rest(
        estimate_rest([{"ResourceType": "AWS::SecretsManager::Secret", "LogicalResourceId": "T"}], 0, [])
    )
    assert lines[0] == "At rest about $0.40 a month:"
    assert read_rest_prices()["date"] in lines[-1]


def test_an_hour_is_priced_as_it_will_be_used() -> None:
    """Spot is shown beside on demand, or on demand alone without spot; a region without prices is reported."""
    assert "about $0.29 on spot, $0.74 on demand" in describe_hours("us-east-1", ["ml.g4dn.xlarge"], True)[1]
    assert "spot" not in describe_hours("us-east-1", ["ml.g4dn.xlarge"], False)[1]
    assert "runs will be refused" in describe_hours("nowhere-1", ["ml.g4dn.xlarge"], True)[0]
    assert "0.74 on demand, about 0.29 on spot" in PAGE
