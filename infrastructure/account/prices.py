"""Refresh `chalicelib/costs/prices.json` from AWS's Price List API: `make prices`, or

    python -m infrastructure.account.prices [--profile PROFILE] [--region REGION ...]

The command asks for the regions in the file and for those named on the command line, and needs the permission
pricing:GetProducts. A value that the list does not contain stays as it was and is reported: no price is ever made up.
All prices are on-demand prices.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "chalicelib" / "costs" / "prices.json"
HOME = "us-east-1"  # the Price List API's region, whichever region is asked about
INSTANCE = re.compile(r"(?:^|-)(Train|Host):(ml\.[a-z0-9-]+\.[a-z0-9]+)$")
USES = {"Train": "training", "Host": "hosting"}
SINGLE = ("training_volume_gb_month", "s3_gb_month", "serverless_gb_second")

Product = dict[str, Any]


def list_products(client: Any, service: str, region: str) -> Iterator[Product]:
    """Yield every product of a service in a region."""
    token: dict[str, str] = {}
    while True:
        where = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}]
        page = client.get_products(ServiceCode=service, Filters=where, FormatVersion="aws_v1", **token)
        yield from (json.loads(each) for each in page["PriceList"])
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


def read_rate(product: Product) -> tuple[float, str, str] | None:
    """Return a product's first on-demand price as (dollars, unit, description); None if there is none in dollars."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for each in sorted(term["priceDimensions"].values(), key=lambda one: float(one.get("beginRange", 0))):
            if "USD" in each["pricePerUnit"]:
                return float(each["pricePerUnit"]["USD"]), each["unit"], each.get("description", "")
    return None


def read_region(client: Any, region: str) -> dict[str, Any]:
    """Return a region's prices in the file's form, without what the list does not contain."""
    told: dict[str, Any] = {"training": {}, "hosting": {}}
    for product in list_products(client, "AmazonSageMaker", region):
        rate = read_rate(product)
        if rate:
            _note_sagemaker(told, str(product["product"]["attributes"].get("usagetype", "")), *rate)
    for product in list_products(client, "AmazonS3", region):
        rate, usage = read_rate(product), str(product["product"]["attributes"].get("usagetype", ""))
        if rate and re.search(r"(^|-)TimedStorage-ByteHrs$", usage):
            told["s3_gb_month"] = rate[0]
    return {name: value for name, value in told.items() if value}


def _note_sagemaker(told: dict[str, Any], usage: str, dollars: float, unit: str, description: str) -> None:
    found = INSTANCE.search(usage)
    if found and unit.lower().startswith("hr") and dollars > 0:
        told[USES[found[1]]][found[2]] = dollars
    elif unit == "GB-Mo" and "Training Job ML storage" in description:
        told["training_volume_gb_month"] = dollars
    elif "Serverless" in usage and "second" in unit.lower() and "GB" in f"{unit} {description}":
        told["serverless_gb_second"] = dollars


def refresh(
    client: Any, document: Mapping[str, Any], regions: list[str], today: date
) -> tuple[dict[str, Any], list[str]]:
    """Return the file with fresh prices, and what had to be kept. Raises LookupError for a region without any price."""
    fresh, kept = dict(document["regions"]), []
    for region in regions:
        told, known = read_region(client, region), dict(fresh.get(region, {}))
        if "training" not in told:
            raise LookupError(f"The price list has no SageMaker training instances in {region}: is the name right?")
        missing = [name for name in ("hosting", *SINGLE) if name not in told]
        unknown = [name for name in missing if name not in known]
        if unknown:
            raise LookupError(f"The price list does not tell {', '.join(unknown)} of {region}, and the file neither.")
        kept += [f"{region}: {name}" for name in missing]
        fresh[region] = known | told | {"basis": f"AWS Price List API, {today.isoformat()}"}
    return {**document, "date": today.isoformat(), "regions": dict(sorted(fresh.items()))}, kept


def write_document(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def connect(profile: str | None) -> Any:
    import boto3

    return boto3.Session(profile_name=profile or None).client("pricing", region_name=HOME)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Refresh the prices from AWS's Price List API.")
    parser.add_argument("--profile", default="")
    parser.add_argument("--region", action="append", default=[], metavar="REGION", help="a region to add")
    chosen = parser.parse_args(arguments)
    document = json.loads(FILE.read_text(encoding="utf-8"))
    regions = sorted({*document["regions"], *chosen.region})
    fresh, kept = refresh(connect(chosen.profile), document, regions, date.today())
    FILE.write_text(write_document(fresh), encoding="utf-8")
    print(f"{FILE.name}: {len(regions)} regions, of {fresh['date']}. Deploy again to use it.")
    for each in kept:
        print(f"  kept, since the list does not tell it: {each}")


if __name__ == "__main__":
    main()
