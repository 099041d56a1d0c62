"""`make deploy`: create or update one stage of the app in an AWS account. It can safely be repeated.

    python -m infrastructure.deploying.deploy [--stage STAGE] [--app APP] [--profile NAME] [--region NAME]
        [--tags "team=vision,cost-centre=42"] [--parameters "AlarmEmail=me@example.com MonthlyCapUsd=50"] [--anyway]

Exit code 0: the stage is as ordered; 1: something prevents it, and the message says what; 2: the command line is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from infrastructure.account.context import Account, Stage, connect, identify
from infrastructure.account.images import check_support, find_images, pin_digests
from infrastructure.deploying.steps import Deployment, deploy
from infrastructure.errors import CannotDeploy
from infrastructure.packaging.build import PROJECT, Package, build_package
from infrastructure.stack.cloudformation import Stacks
from infrastructure.stack.commands import make_parser, run_command, tell
from infrastructure.stack.orders import Order, check_names, check_tags, read_pairs, read_types

FIELDS = {
    "training_cpu": "TrainingImageCpu",
    "training_gpu": "TrainingImageGpu",
    "inference_cpu": "InferenceImageCpu",
    "inference_gpu": "InferenceImageGpu",
}
Pack = Callable[[str], Package]
"""Packs a stage's template, code and source."""


def parse(arguments: list[str] | None) -> Order:
    """Parse a command line into an order. Raises Unusable."""
    parser = make_parser("deploy", "Deploy a stage of the app to AWS.")
    parser.add_argument("--tags", default="", help="cost-allocation tags: NAME=VALUE,NAME=VALUE")
    parser.add_argument("--parameters", default="", help="the template's parameters: NAME=VALUE NAME=VALUE")
    parser.add_argument("--anyway", action="store_true", help="deploy where no quota lets anything train yet")
    told = parser.parse_args(arguments)
    check_names(told.app, told.stage)
    tags, parameters = read_pairs(told.tags, "TAGS"), read_pairs(told.parameters, "PARAMETERS")
    check_tags(tags)
    return Order(told.app, told.stage, told.profile, told.region, tags, parameters, told.anyway)


def name_images(
    account: Account, parameters: Mapping[str, str], ordered: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Return AWS's images of the region, by digest if the registry returns it, and warnings about ageing ones.

    No warning is given of an image in whose place another was ordered.
    """
    images = find_images(account.region, *read_types(parameters))
    unused = [field for field, parameter in FIELDS.items() if parameter in ordered]
    notes = [f"! {each}" for each in check_support(images, datetime.now(UTC).date(), unused)]
    try:
        images = pin_digests(images, account.clients("ecr"))
    except CannotDeploy as error:
        notes.append(f"! The images are named by their tags, which AWS may move: {error}")
    named = {parameter: str(getattr(images, field)) for field, parameter in FIELDS.items()}
    return named | {"DebuggerRulesImage": images.debugger_rules}, notes


def pack(stage: str) -> Package:
    """Pack the app from this working tree, as `make package` does."""
    return build_package(PROJECT, stage, PROJECT / "dist")


def run(order: Order, pack: Pack) -> None:
    """Carry out an order. Raises OperatorError."""
    clients, region = connect(order.profile, order.region)
    stage = Stage(order.app, order.stage, identify(clients, region))
    tell(f"Deploying {stage.stack} to account {stage.account.number}, {region}.")
    stacks = Stacks(clients("cloudformation"), tell)
    deploy(Deployment(stage, order, pack(order.stage), stacks, name_images, tell))


def main(arguments: list[str] | None = None, pack: Pack = pack) -> int:
    return run_command(
        "deploy",
        lambda: run(parse(arguments), pack),
        interrupted="left alone. CloudFormation goes on by itself; the same command follows it.",
    )


if __name__ == "__main__":
    sys.exit(main())
