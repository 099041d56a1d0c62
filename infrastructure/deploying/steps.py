"""Deploy a stage step by step. Every step says what it does, and every step can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure.account.context import Account, Stage, explained
from infrastructure.account.cost_tags import activate_tags
from infrastructure.account.quotas import Choice, choose, list_wanted, read_limits
from infrastructure.account.spot_prices import describe_hours
from infrastructure.deploying.environment import check_environment
from infrastructure.deploying.rest_costs import describe_rest, estimate_rest
from infrastructure.errors import CannotDeploy
from infrastructure.packaging.archive import name_by_content
from infrastructure.packaging.build import FUNCTION, Package, point_functions
from infrastructure.stack.artifacts import has_bucket, keep_orders, make_artifacts_bucket, read_orders, upload
from infrastructure.stack.cloudformation import StackRequest, Stacks, Tell
from infrastructure.stack.orders import Order, join_orders, read_types, settle_parameters, split_types, tag_stage

Parameters = Mapping[str, str]
FindImages = Callable[[Account, Parameters, Collection[str]], tuple[Parameters, list[str]]]
"""Returns the parameters that name a region's images for a stack's instance types, and notes for the operator. The
last argument has the names of the parameters that were ordered."""


@dataclass(frozen=True)
class Deployment:
    """What a deployment works with."""

    stage: Stage
    order: Order
    package: Package
    stacks: Stacks
    find_images: FindImages
    tell: Tell

    def client(self, service: str) -> Any:
        return self.stage.account.clients(service)


def deploy(work: Deployment) -> dict[str, str]:
    """Bring the stage to the ordered state and return the stack's outputs. Raises CannotDeploy."""
    template: dict[str, Any] = json.loads(work.package.template.read_text())
    ordered = join_orders(template, work.order, read_orders(work.stage))
    parameters = settle(work, template, ordered)
    check_environment(template, parameters)
    request = publish(work, template, parameters)
    changed = work.stacks.apply(request)
    work.tell(f"The stack {request.name} is there." if changed else f"The stack {request.name} was so already.")
    keep_orders(work.stage, ordered)
    outputs = work.stacks.read_outputs(request.name)
    send_source(work, outputs["BucketName"])
    for line in guard_budget(work, parameters) + describe(work, template, parameters, outputs):
        work.tell(line)
    return outputs


def settle(work: Deployment, template: dict[str, Any], ordered: Parameters) -> dict[str, str]:
    """Choose the parameters within the account's limits, the region's images and its API Gateway settings."""
    before = work.stacks.read_parameters(work.stage.stack)
    wanted = settle_parameters(template, work.order, ordered, {})
    choice = fit_limits(work, template, wanted, before=before)
    found = {
        "TrialInstanceTypes": ",".join(choice.trial_types),
        "TrainingInstanceTypes": ",".join(choice.training_types),
        "UseSpot": str(choice.use_spot).lower(),
        "ReservedConcurrency": str(choice.reserved_concurrency),
        "ApiConcurrency": str(choice.api_concurrency),
        "MaxParallelTrials": str(choice.max_parallel_trials),
        "MaxTrainingInstances": str(choice.max_training_instances),
        "MaxServerlessMemoryMb": str(choice.max_serverless_memory_mb),
    }
    for line in describe_hours(work.stage.account.region, choice.trial_types, choice.use_spot):
        work.tell(line)
    images, notes = work.find_images(work.stage.account, wanted | found, ordered.keys())
    for note in notes:
        work.tell(note)
    role = "CreateApiLogsRole"
    others = {role: before.get(role) or need_api_logs_role(work), "CodeName": work.package.source.name}
    return settle_parameters(template, work.order, ordered, {**images, **others}) | found


def fit_limits(work: Deployment, template: Mapping[str, Any], wanted: Parameters, *, before: Parameters) -> Choice:
    """Fit the order into the account's limits, and report how. Raises CannotDeploy if nothing could ever run."""
    trials, training, endpoints = read_types(wanted)
    work.tell("Looking at the account's quotas ...")
    limits = read_limits(
        work.client("service-quotas"), work.client("lambda"), list_wanted([*trials, *training], endpoints)
    )
    choice = choose(
        limits,
        trial_types=trials,
        training_types=training,
        endpoint_types=endpoints,
        use_spot=wanted["UseSpot"] == "true",
        reserved=int(wanted["ReservedConcurrency"] or 0),
        functions=count_reserving(template),
        api=int(wanted["ApiConcurrency"] or 0),
        reserved_before=count_reserved(template, before),
    )
    for line in choice.told:
        work.tell(f"! {line}")
    if choice.hopeless and not work.order.anyway:
        raise CannotDeploy(
            "\n".join(choice.hopeless)
            + "\nNothing was made. Ask for the quota, name other types "
            + '(PARAMETERS="TrialInstanceTypes=... TrainingInstanceTypes=..."), or deploy all the same: ANYWAY=yes'
        )
    return choice


def count_reserving(template: Mapping[str, Any]) -> int:
    """Count the functions of events, which all reserve the same concurrency: the API's has its own."""
    functions = [each["Properties"] for each in template["Resources"].values() if each["Type"] == FUNCTION]
    return sum("ReservedConcurrentExecutions" in each and bool(each.get("Events")) for each in functions)


def count_reserved(template: Mapping[str, Any], before: Parameters) -> int:
    """Return how many calls the stage's functions reserve now, all together."""
    each, api = (int(before.get(name, "0")) for name in ("ReservedConcurrency", "ApiConcurrency"))
    return each * count_reserving(template) + api


def need_api_logs_role(work: Deployment) -> str:
    """Return whether API Gateway still needs a role for its logs here: it has one per account and region."""
    with explained("Looking at API Gateway's account settings"):
        return "false" if work.client("apigateway").get_account().get("cloudwatchRoleArn") else "true"


def publish(work: Deployment, template: dict[str, Any], parameters: Parameters) -> StackRequest:
    """Upload the code and the template to the artifacts bucket, and build the request to CloudFormation."""
    stage, tags, s3 = work.stage, tag_stage(work.order, parameters["CostTags"]), work.client("s3")
    make_artifacts_bucket(stage, tags)
    code = work.package.code
    if upload(s3, stage.artifacts, code.name, code):
        work.tell(f"Sent {code.name} ({code.stat().st_size / 1e6:.1f} MB).")
    point_functions(template, {"Bucket": stage.artifacts, "Key": code.name})
    # CloudFormation imports an existing bucket by its name, which must then be a plain text, not a function
    template["Resources"]["Bucket"]["Properties"]["BucketName"] = stage.bucket
    path = write_template(template, code.parent)
    upload(s3, stage.artifacts, path.name, path)
    url = f"https://{stage.artifacts}.s3.{stage.account.region}.amazonaws.com/{path.name}"
    there = has_bucket(s3, stage.bucket, stage.account.number)
    if there:  # the program must exist before the functions refer to it
        send_source(work, stage.bucket)
    is_new = not work.stacks.is_made(stage.stack)
    if there and is_new:
        work.tell(f"The bucket {stage.bucket} is there from before, and is taken into the stack with what it holds.")
    return StackRequest(stage.stack, url, parameters, tags, imports=there and is_new)


def write_template(template: Mapping[str, Any], folder: Path) -> Path:
    """Write the template to upload, under a name derived from its content."""
    body = json.dumps(template, separators=(",", ":")).encode()
    path = folder / name_by_content("template", body, ".json")
    path.write_bytes(body)
    return path


def send_source(work: Deployment, bucket: str) -> None:
    """Upload the training program's tarball to where CodeName points. One that a run has pinned is never removed."""
    source = work.package.source
    if upload(work.client("s3"), bucket, f"code/{source.name}", source):
        work.tell(f"Sent {source.name}.")


def guard_budget(work: Deployment, parameters: Parameters) -> list[str]:
    """Let the stage's budget see what it costs, and return what to tell of that; a stage without a cap has none."""
    return activate_tags(work.client("ce")) if float(parameters["MonthlyCapUsd"] or 0) else []


def describe(
    work: Deployment, template: Mapping[str, Any], parameters: Parameters, outputs: Mapping[str, str]
) -> list[str]:
    """List what an operator needs to go on: bucket, URL, token, and what the idle stage costs."""
    url, bucket = outputs["EndpointURL"].rstrip("/"), outputs["BucketName"]
    resources = work.stacks.list_resources(work.stage.stack)
    schedules = [
        event["Properties"]["Schedule"]
        for each in template["Resources"].values()
        if each["Type"] == FUNCTION
        for event in each["Properties"].get("Events", {}).values()
        if event["Type"] == "Schedule"
    ]
    items = estimate_rest(resources, len(split_types(parameters.get("SubnetIds", ""))), schedules)
    return [
        "",
        f"  Page     {url}/",
        f"  Bucket   {bucket}",
        "",
        f"  export BUCKET={bucket}",
        f"  export API_URL={url}",
        f"  export API_TOKEN=$({read_token_by(work)})",
        "  aws s3 cp dogs.zip s3://$BUCKET/datasets/",
        '  curl -H "Authorization: Bearer $API_TOKEN" $API_URL/runs',
        "",
        *describe_rest(items),
    ]


def read_token_by(work: Deployment) -> str:
    """Return the command that prints the token of the stage's routes."""
    profile = f" --profile {work.order.profile}" if work.order.profile else ""
    where = f"--region {work.stage.account.region} --secret-id {work.stage.prefix}tokens"
    secret = f"aws secretsmanager get-secret-value{profile} {where} --query SecretString --output text"
    return f"""{secret} | python3 -c 'import json, sys; print(json.load(sys.stdin)["default_token"])'"""
