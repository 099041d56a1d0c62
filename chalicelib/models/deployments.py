"""Deploy a run's model: model, config, endpoint, and how it scales. The caller holds the endpoint's lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib import errors
from chalicelib.aws.quotas import ask_one_by_one
from chalicelib.aws.sagemaker import Kind
from chalicelib.recipes.resolving import Recipe, read_pinned
from chalicelib.requests.jobs import Request
from chalicelib.requests.serving import (
    build_config_request,
    build_endpoint_request,
    build_model_request,
    choose_instance_type,
    name_variant,
)
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import APPROVAL, RESULT, SECOND_RESULT, Observation, name_deployment
from chalicelib.services import Services

CREATE_TRIES = 4
SCALES_NOT = (errors.InvalidRequest, errors.AccessDenied, errors.QuotaExceeded)  # a second try would meet them too


def create_own(kind: Kind, run_id: str, request: Request, services: Services) -> None:
    """Create a resource, or check that the existing one is this run's. Raises AlreadyExists if it is a stranger's.

    A resource of the run's own exists if another look was faster, or if the answer to this very call was lost and the
    SDK repeated it by itself.
    """
    try:
        services.sagemaker.create(kind, request)
    except errors.AlreadyExists as error:
        name = request[f"{kind.title}Name"]
        there = services.sagemaker.describe(kind, name)
        tags = services.sagemaker.list_tags(there[f"{kind.title}Arn"]) if there else {}
        if there and tags.get("whippet:run") != run_id:
            raise errors.AlreadyExists(
                f"{kind.title} {name} exists and is not of run {run_id}: its tags are {tags}. Delete it, and try again."
            ) from error


def deploy_on_first(seen: Observation, recipe: Recipe, update: bool, services: Services) -> None:
    """Deploy on the first remaining instance type that the account's quotas allow.

    A config cannot be changed, so the config of a type that was not available is deleted and created again. Raises
    QuotaExceeded if no type is left.
    """

    def ask(instance_type: str) -> None:
        services.sagemaker.delete(Kind.ENDPOINT_CONFIG, seen.run.run_id)
        chosen = replace(recipe, instance_types=replace(recipe.instance_types, endpoint=(instance_type,)))
        deploy(seen, chosen, update, services)

    if len(seen.endpoint_types) > 1 or seen.was_requested:
        ask_one_by_one(seen.endpoint_types, ask)
    else:
        deploy(seen, recipe, update, services)


def deploy(seen: Observation, recipe: Recipe, update: bool, services: Services) -> None:
    """Create model and config, and have the endpoint serve them. One that cannot be updated is deleted first."""
    run, settings = seen.run, services.settings
    request = build_model_request(
        run, recipe, settings, (seen.decision or {})["model_data"], services.bucket.find_origin()
    )
    create_own(Kind.MODEL, run.run_id, request, services)
    create_own(Kind.ENDPOINT_CONFIG, run.run_id, build_config_request(run, recipe, settings), services)
    if move_endpoint(run, recipe, services) if update else create_endpoint(run, services):
        record_deployment(seen, services, recipe)


def create_endpoint(run: Run, services: Services) -> bool:
    """Create the endpoint. Returns False if it is there by now and serves another run: it has to be moved then.

    For a moment after the config was created, SageMaker may not know it. Raises AlreadyExists if the endpoint does not
    belong to this app and stage.
    """
    request = build_endpoint_request(run, services.settings)
    for attempt in range(CREATE_TRIES):
        try:
            services.sagemaker.create(Kind.ENDPOINT, request)
        except errors.AlreadyExists:
            if there := services.sagemaker.describe(Kind.ENDPOINT, run.endpoint):
                _check_ours(run, there, services)
            return _is_asked(run, services)
        except errors.ServiceNotFound:
            if attempt == CREATE_TRIES - 1:
                raise
            services.clock.sleep(1.0)
        except errors.ServiceError:
            if not _is_asked(run, services):
                raise
            return True
        else:
            return True
    return False


def _is_asked(run: Run, services: Services) -> bool:
    """Return whether the endpoint serves the run or soon will: a call that failed may have done its work.

    An answer may be lost, and the SDK's repeated call then meets what the first one did.
    """
    there = services.sagemaker.describe(Kind.ENDPOINT, run.endpoint) or {}
    pending = there.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    return run.run_id in (there.get("EndpointConfigName"), pending)


def move_endpoint(run: Run, recipe: Recipe, services: Services) -> bool:
    """Move the endpoint to the run's config. Returns False if it is gone, or had to go, and has to be created.

    SageMaker cannot turn an endpoint on machines into a serverless one. While a variant scales, its machines cannot be
    changed. Raises AlreadyExists if the endpoint does not belong to this app and stage.
    """
    there = services.sagemaker.describe(Kind.ENDPOINT, run.endpoint)
    if there is None:
        return False
    _check_ours(run, there, services)
    stop_scaling(there, services)
    if is_on_machines(there) and recipe.endpoint.kind == "serverless":
        reason = "SageMaker cannot turn an endpoint on machines into a serverless one: it is deleted and created again."
        document = {"format": 1, "endpoint": run.endpoint, "reason": reason, "at": services.clock.now()}
        services.runs.write_file(run.run_id, "replacement.json", document)
        delete_endpoint(run.endpoint, services)
        return False
    try:
        services.sagemaker.update_endpoint(run.endpoint, run.run_id)
    except errors.QuotaExceeded:  # it keeps serving what it serves, perhaps for long
        scale_as_served(run.endpoint, there.get("EndpointConfigName"), services)
        raise
    except errors.ServiceError:
        if not _is_asked(run, services):
            raise
    return True


def _check_ours(run: Run, there: dict[str, Any], services: Services) -> None:
    settings = services.settings
    tags = services.sagemaker.list_tags(there["EndpointArn"])
    if (tags.get("whippet:app"), tags.get("whippet:stage")) != (settings.app_name, settings.stage):
        raise errors.AlreadyExists(f"The endpoint {run.endpoint} is not of this app and stage: its tags are {tags}.")


def is_on_machines(endpoint: dict[str, Any]) -> bool:
    """Return whether an endpoint, as SageMaker describes it, runs on machines. One that never served does not say."""
    variants = endpoint.get("ProductionVariants", [])
    return not any("CurrentServerlessConfig" in variant for variant in variants)


def stop_scaling(endpoint: dict[str, Any], services: Services) -> None:
    """Stop scaling an endpoint, as SageMaker describes it: it keeps the machines that it has."""
    if is_on_machines(endpoint):
        services.scaling.deregister(endpoint["EndpointName"], name_variant(services.settings))


def delete_endpoint(name: str, services: Services) -> None:
    """Delete an endpoint and its scaling. Raises Busy if it is changing in another way than being deleted."""
    endpoint = services.sagemaker.describe(Kind.ENDPOINT, name)
    if endpoint is None or endpoint["EndpointStatus"] == "Deleting":
        return
    stop_scaling(endpoint, services)
    try:
        services.sagemaker.delete(Kind.ENDPOINT, name)
    except errors.Busy:  # also the answer to a repeated call whose first answer was lost
        there = services.sagemaker.describe(Kind.ENDPOINT, name)
        if there and there["EndpointStatus"] != "Deleting":
            raise


def record_deployment(seen: Observation, services: Services, recipe: Recipe | None = None) -> None:
    """Write that the endpoint was asked to serve the run, and on which machine if that is known."""
    run, now = seen.run, services.clock.now()
    on = choose_instance_type(recipe, services.settings) if recipe and recipe.endpoint.kind == "instance" else None
    document = {"format": 1, "endpoint": run.endpoint, "config": run.run_id, "instance_type": on, "at": now}
    services.runs.write_file(run.run_id, name_deployment(seen.deployment_number), document)


def note_asked(endpoint: dict[str, Any], services: Services) -> None:
    """Write that an endpoint, as SageMaker describes it, was asked to serve its runs, where no look has written it.

    A look may have been killed right after it asked. Without this its run would deploy again what a person takes down.
    """
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    for run_id in filter(None, (endpoint.get("EndpointConfigName"), pending)):
        run, files = services.runs.find(run_id), services.runs.list_files(run_id)
        if run and (SECOND_RESULT if APPROVAL in files else RESULT) not in files:
            seen = Observation(run, services.clock.now(), frozenset(files))
            record_deployment(seen, services)


def record_no_machine(seen: Observation, reason: str, services: Services) -> None:
    """Write that AWS had no machine for the current deployment."""
    on, now = seen.machine, services.clock.now()
    document = {"format": 1, "endpoint": seen.run.endpoint, "instance_type": on, "reason": reason, "at": now}
    services.runs.write_file(seen.run.run_id, f"no-machine-{seen.deployment_number}.json", document)


def scale(seen: Observation, services: Services) -> None:
    """Scale the endpoint as the run that it serves asks for: after a rollback that is the previous run."""
    document = scale_as_served(seen.run.endpoint, seen.endpoint.config if seen.endpoint else None, services)
    services.runs.write_file(seen.run.run_id, "scaling.json", document | {"at": services.clock.now()})


def scale_as_served(endpoint: str, config: str | None, services: Services) -> dict[str, Any]:
    """Scale an endpoint as the run of its config asks for. Returns how it scales.

    If it cannot scale, the model still answers from the machines that it has, and the document says why.
    """
    served = services.runs.find(config) if config else None
    plan = read_pinned(served.recipe).endpoint if served else None
    document: dict[str, Any] = {"format": 1, "endpoint": endpoint, "config": config}
    if plan and plan.kind == "instance" and plan.min_instances < plan.max_instances:
        document |= {"min_instances": plan.min_instances, "max_instances": plan.max_instances}
        try:
            services.scaling.register(endpoint, name_variant(services.settings), plan.min_instances, plan.max_instances)
        except SCALES_NOT as error:
            services.log.exception("the endpoint does not scale")
            document["problem"] = error.message
    return document
