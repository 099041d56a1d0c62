"""Test refreshing the prices against a price list in the API's form, without an account."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from infrastructure.account.prices import FILE, refresh, write_document

TODAY = date(2027, 1, 2)


def make_product(usage: str, usd: str, unit: str = "Hrs", description: str = "", **more: Any) -> str:
    """One entry of GetProducts' PriceList, which is JSON in JSON."""
    dimension = {"unit": unit, "beginRange": "0", "pricePerUnit": {"USD": usd}, "description": description} | more
    terms = {"OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": {"SKU.JRTCKXETXF.6YS6EN2CT7": dimension}}}}
    return json.dumps({"product": {"attributes": {"usagetype": usage, "regionCode": "eu-west-9"}}, "terms": terms})


class FakePricing:
    """A price list in pages of two."""

    def __init__(self, **lists: list[str]) -> None:
        self.lists = lists

    def get_products(self, ServiceCode: str, Filters: Any, FormatVersion: str, NextToken: str = "0") -> dict[str, Any]:
        assert [each["Field"] for each in Filters] == ["regionCode"]
        start, found = int(NextToken), self.lists[ServiceCode]
        page: dict[str, Any] = {"PriceList": found[start : start + 2], "FormatVersion": FormatVersion}
        return page | ({"NextToken": str(start + 2)} if start + 2 < len(found) else {})


SAGEMAKER = [
    make_product("EUW9-Train:ml.m5.xlarge", "0.2570000000"),
    make_product("EUW9-Train:ml.m5.xlarge-Spot", "0.1000000000"),
    make_product("EUW9-Host:ml.m5.large", "0.1290000000"),
    make_product("EUW9-Notebk:ml.m5.large", "0.9000000000"),
    make_product("EUW9-Train:VolumeUsage", "0.154", "GB-Mo", "$0.154 per GB-Mo of Training Job ML storage"),
    make_product("EUW9-ServerlessInf:Compute", "0.0000200000", "seconds", "$0.00002 per GB-second of Serverless"),
]
S3 = [
    make_product("EUW9-TimedStorage-ByteHrs", "0.023", "GB-Mo"),
    make_product("EUW9-TimedStorage-SIA-ByteHrs", "0.0125", "GB-Mo"),
]
EMPTY: dict[str, Any] = {"format": 1, "date": "2020-01-01", "regions": {}}


def test_a_region_is_read_from_the_list() -> None:
    """On-demand training and hosting instances, volumes and storage are read; notebooks and spot are not."""
    client = FakePricing(AmazonSageMaker=SAGEMAKER, AmazonS3=S3)
    fresh, kept = refresh(client, EMPTY, ["eu-west-9"], TODAY)
    assert kept == []
    assert fresh["date"] == "2027-01-02"
    assert fresh["regions"]["eu-west-9"] == {
        "training": {"ml.m5.xlarge": 0.257},
        "hosting": {"ml.m5.large": 0.129},
        "training_volume_gb_month": 0.154,
        "serverless_gb_second": 0.00002,
        "s3_gb_month": 0.023,
        "basis": "AWS Price List API, 2027-01-02",
    }


def test_what_the_list_does_not_tell_is_kept_and_named() -> None:
    """The operator sees which values were not refreshed."""
    known = {"eu-west-9": {"serverless_gb_second": 0.00003, "s3_gb_month": 0.02}}
    fresh, kept = refresh(
        FakePricing(AmazonSageMaker=SAGEMAKER[:5], AmazonS3=[]), EMPTY | {"regions": known}, ["eu-west-9"], TODAY
    )
    assert kept == ["eu-west-9: s3_gb_month", "eu-west-9: serverless_gb_second"]
    assert fresh["regions"]["eu-west-9"]["serverless_gb_second"] == 0.00003


@pytest.mark.parametrize("products", [[], SAGEMAKER[:1]])
def test_a_region_without_prices_is_an_error(products: list[str]) -> None:
    """A missing region is an error rather than a file with gaps."""
    with pytest.raises(LookupError, match="eu-west-9"):
        refresh(FakePricing(AmazonSageMaker=products, AmazonS3=[]), EMPTY, ["eu-west-9"], TODAY)


def test_the_file_is_written_as_it_is_committed() -> None:
    """A refresh changes prices and not the format."""
    text = FILE.read_text(encoding="utf-8")
    assert write_document(json.loads(text)) == text
