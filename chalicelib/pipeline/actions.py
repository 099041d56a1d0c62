"""Take a step: each function here changes one thing on AWS that the next look will see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import to_json
from chalicelib.aws.quotas import ask_for_any, ask_one_by_one
from chalicelib.aws.sagemaker import Kind
from chalicelib.costs.allowances import fit_trials
from chalicelib.costs.billing import count_billable, count_spent, estimate_run, tell_training
from chalicelib.costs.ledgers import join_queue, make_reservation, release
from chalicelib.datasets.preflight import DatasetLimits, Wishes, inspect_dataset
from chalicelib.models.choosing import describe_trial
from chalicelib.models.deployments import (
    create_own,
    delete_endpoint,
    deploy_on_first,
    record_deployment,
    record_no_machine,
    scale,
)
from chalicelib.pipeline.decisions import find_wait_begin
from chalicelib.pipeline.job_files import take_findings
from chalicelib.pipeline.observing import (
    count_seconds,
    read_evaluation,
    see_sources,
    see_trainings,
    see_trials,
    see_versions,
)
from chalicelib.pipeline.verdicts import Story, fill_report, list_typical
from chalicelib.recipes.resolving import Recipe, read_pinned
from chalicelib.requests.jobs import build_training_request, build_tuning_request
from chalicelib.requests.warm_start import build_warm_start
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import APPROVAL, RESULT, SECOND_RESULT, Observation, Training
from chalicelib.runs.steps import (
    DeleteEndpoint,
    Deploy,
    EstimateCost,
    Finish,
    Hold,
    Inspect,
    Pin,
    RecordDeployment,
    RecordTuning,
    Reserve,
    Scale,
    Select,
    Settle,
    StartTraining,
    StartTuning,
    Step,
    StopTraining,
    StopTuning,
    TryElsewhere,
    WriteReport,
)
from chalicelib.services import Services

LAST_LINES = 50  # of a failed job's log, in its report


def act(step: Step, seen: Observation, services: Services) -> None:
    """Take one step. Taking it twice, or while another look takes it, has the effect of taking it once."""
    run, sagemaker = seen.run, services.sagemaker
    match step:
        case Pin():
            pin_input(seen, services)
        case Inspect():
            inspect(seen, services)
        case EstimateCost():
            services.runs.add_cost(run.run_id, estimate_run(run, seen.dataset or {}, services))
        case Reserve():
            make_reservation(run, services)
        case Hold():
            join_queue(run, services)
        case StartTuning():
            start_tuning(seen, services)
        case StopTuning():
            sagemaker.stop(Kind.TUNING_JOB, run.run_id)
        case RecordTuning(document):
            services.runs.write_file(run.run_id, "tuning.json", document)
        case StartTraining():
            start_training(step, seen, services)
        case StopTraining():
            sagemaker.stop(Kind.TRAINING_JOB, seen.training.name if seen.training else run.training_job)
        case Select(document):
            services.runs.write_file(run.run_id, "decision.json", document)
        case Deploy(update):
            deploy_on_first(seen, read_recipe(seen), update, services)
        case DeleteEndpoint():
            delete_endpoint(run.endpoint, services)
        case RecordDeployment():
            record_deployment(seen, services)
        case TryElsewhere(reason):
            record_no_machine(seen, reason, services)
        case Scale():
            scale(seen, services)
        case Finish(status, reason):
            finish(seen, status, reason, services)
        case Settle():
            settle(seen, services)
        case WriteReport():
            write_report(seen, services)


def hold(seen: Observation, step: Hold, services: Services) -> bool:
    """Write what a run waits for to waiting.json. Returns False if the file already says so.

    This is the only file of a run that is overwritten, because the reason may change; a later launch makes it void.
    `since` stays the same while the run waits for the same kind of thing.
    """
    since = find_wait_begin(seen, step.kind).isoformat()
    document = {"format": 1, "for": seen.next_launch, "kind": step.kind, "reason": step.reason, "since": since}
    if document == seen.waiting:
        return False
    services.bucket.write(f"{seen.run.folder}waiting.json", to_json(document))
    return True


def start_tuning(seen: Observation, services: Services) -> None:
    """Create the tuning job on those of its instance types that the account's quotas allow.

    If no quota allows as many machines as trials are to run at a time, fewer run at a time. Raises QuotaExceeded if the
    quotas allow none.
    """
    recipe, settings = read_recipe(seen), services.settings
    types = seen.trial_types or recipe.instance_types.trial or settings.trial_instance_types
    at_once = fit_trials(recipe, settings)
    try:
        ask_for_any(types, lambda left: create_tuning(seen, left, at_once, services))
    except errors.QuotaTooSmall as refusal:
        if not 0 < refusal.most < at_once:
            raise
        fewer = refusal.most
        services.log.warning("fewer trials run at a time", extra={"at_once": fewer, "why": refusal.message})
        ask_for_any(types, lambda left: create_tuning(seen, left, fewer, services))


def create_tuning(seen: Observation, types: tuple[str, ...], at_once: int, services: Services) -> None:
    """Create the tuning job on these instance types, with so many trials at a time."""
    recipe = read_recipe(seen)
    chosen = replace(recipe, instance_types=replace(recipe.instance_types, trial=types))
    request = build_tuning_request(seen.run, chosen, services.settings, at_once=at_once)
    begin = find_warm_start(seen.run, request, services) if recipe.warm_start else {}
    try:
        create_own(Kind.TUNING_JOB, seen.run.run_id, request | begin, services)
    except errors.InvalidRequest as refusal:
        if not begin:
            raise
        services.log.warning("the tuning begins without what the last one learnt", extra={"why": refusal.message})
        create_own(Kind.TUNING_JOB, seen.run.run_id, request, services)


def find_warm_start(run: Run, request: dict[str, Any], services: Services) -> dict[str, Any]:
    """Return the part of the request that names the tuning job of the dataset's live model, if it can be a parent.

    An endpoint's config has the name of its run, which is also that of the run's tuning job.
    """
    endpoint = services.sagemaker.describe(Kind.ENDPOINT, run.endpoint)
    name = (endpoint or {}).get("EndpointConfigName")
    parent = services.sagemaker.describe(Kind.TUNING_JOB, name) if name and name != run.run_id else None
    return build_warm_start(request, parent)


def start_training(step: StartTraining, seen: Observation, services: Services) -> None:
    """Create the training job on the first instance type of which the account's quotas allow one more.

    Raises QuotaExceeded if there is none. AWS refuses a channel without files: where some went at this very moment,
    Busy is raised, and the next look asks without them.
    """
    run, recipe, settings = seen.run, read_recipe(seen), services.settings
    tuned = seen.tuned or {}
    sources = see_sources(run, tuned, services)

    def ask(instance_type: str) -> None:
        request = build_training_request(
            run, recipe, settings, step.best, number=step.number, instance_type=instance_type, sources=sources
        )
        create_own(Kind.TRAINING_JOB, run.run_id, request, services)

    try:
        ask_one_by_one(step.types or recipe.instance_types.training or settings.training_instance_types, ask)
    except errors.InvalidRequest as error:
        if see_sources(run, tuned, services) == sources:
            raise
        raise errors.Busy(f"What the final training compares its model with has changed meanwhile: {error}") from error


def read_recipe(seen: Observation) -> Recipe:
    """Return the recipe that the run pinned."""
    return read_pinned(seen.run.recipe)


def read_wishes(recipe: Recipe) -> Wishes:
    """Return what the recipe says about reading the dataset."""
    return Wishes.read(recipe.class_level, recipe.name_encoding, recipe.ignore, recipe.group, recipe.labels)


def pin_input(seen: Observation, services: Services) -> None:
    """Copy exactly the run's version of the dataset to its input. Ends the run if that version is gone."""
    run, source = seen.run, seen.run.source
    target = f"{run.folder}input/dataset.zip"
    try:
        services.bucket.copy(
            str(source["key"]), target, etag=str(source["etag"]), size=run.size, version=source["version"]
        )
    except errors.PreconditionFailed:
        finish(seen, "superseded", f"{run.key} was uploaded again before this version was copied.", services)
    except errors.ServiceNotFound:
        finish(seen, "failed", f"{run.key} was deleted before it was copied. Upload it again.", services)


def inspect(seen: Observation, services: Services) -> None:
    """Check the pinned dataset and write the findings to dataset.json."""
    settings = services.settings
    limits = DatasetLimits(settings.dataset_max_images, settings.dataset_max_bytes, settings.dataset_max_classes)
    with services.bucket.open(f"{seen.run.folder}input/dataset.zip") as archive:
        report = inspect_dataset(archive, limits, read_wishes(read_recipe(seen)))
    services.runs.write_file(seen.run.run_id, "dataset.json", report.as_dict())


def finish(seen: Observation, status: str, reason: str | None, services: Services) -> None:
    """Write result.json, or the second one of a run that was approved after its end. The first of each stands."""
    name = SECOND_RESULT if seen.is_approved else RESULT
    services.runs.write_file(seen.run.run_id, name, build_result(seen, status, reason, services))


def build_result(seen: Observation, status: str, reason: str | None, services: Services) -> dict[str, Any]:
    """Build result.json: how the run ended, with the metrics of the shipped model if there is one."""
    run, now = seen.run, services.clock.now()
    result: dict[str, Any] = {
        "format": 1,
        "run_id": run.run_id,
        "dataset": run.dataset,
        "attempt": run.attempt,
        "status": status,
        "reason": reason,
        "reached": list(seen.reached),
        "started_at": run.created_at,
        "ended_at": now,
        "seconds": count_seconds(seen, services),
    }
    tuned = services.runs.read_file(run.run_id, "tuning.json")
    decision = services.runs.read_file(run.run_id, "decision.json")
    if tuned:
        result["hyperparameters"] = tuned["best"]["hyperparameters"]
    if decision:
        evaluation = find_evaluation(run, decision, services)
        result["training_job_name"] = decision["training_job_name"]
        result["model_data"] = decision["model_data"]
        result["metrics"] = {split: evaluation[split] for split in ("valid", "test") if split in evaluation}
    if run.cost:
        result["cost"] = {name: run.cost[name] for name in ("expected_usd", "worst_usd")} | {
            "spent_usd": count_spent_if_known(seen, services)
        }
    if status == "deployed":
        result |= {"model": run.run_id, "endpoint": run.endpoint}
    return result


def find_evaluation(run: Run, decision: dict[str, Any], services: Services) -> dict[str, Any]:
    """Return what was measured of the model that ships: the job's own file, else its last metrics."""
    found = read_evaluation(run, decision["training_job_name"], services)
    return found or decision.get("evaluation") or {}


def count_spent_if_known(seen: Observation, services: Services) -> float | None:
    """Return what the run has cost so far, or None where SageMaker cannot be asked: no run goes on for want of that."""
    try:
        return count_run_spent(seen, services)
    except errors.ServiceError:
        services.log.exception("what the run has cost is not known yet")
        return None


def count_run_spent(seen: Observation, services: Services) -> float | None:
    """Return the dollars that the run's jobs have cost so far, or None if a price is unknown."""
    run = seen.run
    trials = list_trials(seen, services)
    trainings = [tell_training(each) for each in see_trainings(run, services)] if "training" in seen.reached else []
    return count_spent(run, trials, trainings, services.clock.now(), services.settings.aws_region)


def settle(seen: Observation, services: Services) -> None:
    """Write settlement.json and enter the cost in the ledger. Every job of the run has ended by now."""
    usd = count_run_spent(seen, services)
    release(seen.run, usd, services)
    document = {"format": 1, "spent_usd": usd, "worst_usd": (seen.run.cost or {}).get("worst_usd")}
    services.runs.write_file(seen.run.run_id, "settlement.json", document | {"at": services.clock.now()})


def write_report(seen: Observation, services: Services) -> None:
    """Write the report: the training's page with the verdict on the whole run filled in. The first one stands."""
    run, runs = seen.run, services.runs
    result = seen.result or {}
    job = result.get("training_job_name")
    trainings = see_trainings(run, services) if "training" in seen.reached else []
    trials = list_trials(seen, services)
    story = Story(
        result=result,
        recipe=run.recipe or {},
        trials=trials,
        best=result.get("hyperparameters") or {},
        decision=runs.read_file(run.run_id, "decision.json"),
        evaluation=read_evaluation(run, job, services) if job else None,
        trainings=len(trainings),
        seconds=count_billable([*trials, *map(tell_training, trainings)], services.clock.now()),
        cost=(result.get("cost") or {}) | {"billed": services.settings.billed},
        approval=runs.read_file(run.run_id, APPROVAL) if seen.is_approved else None,
        page_url=services.settings.page_url,
        versions=see_versions(seen, services),
        log=read_last_words(trials, trainings, services) if result.get("status") == "failed" else (),
    )
    page = fill_report(take_findings(run, trainings[-1].name, services) if trainings else None, story)
    services.bucket.create(f"{run.folder}{seen.report}", page, "text/html; charset=utf-8")


def list_trials(seen: Observation, services: Services) -> list[dict[str, Any]]:
    """List the run's trials, including those of a tuning that was stopped or failed."""
    tuned = services.runs.read_file(seen.run.run_id, "tuning.json")
    if tuned or "tuning" not in seen.reached:
        return tuned["trials"] if tuned else []
    return [describe_trial(trial) for trial in see_trials(seen.run, services)]


def read_last_words(trials: Sequence[dict[str, Any]], trainings: Sequence[Training], services: Services) -> list[str]:
    """Return the last lines of a job that failed as most did; nothing where no job did, or its log cannot be read."""
    jobs = [(each["name"], each["reason"]) for each in trials]
    failed = [(each.name, each.reason) for each in trainings if each.reason] or jobs
    typical = list_typical([reason for _, reason in failed])
    try:
        return services.logs.read_tail(failed[typical[-1]][0], LAST_LINES) if typical else []
    except errors.ServiceError:
        services.log.exception("the log of a failed job cannot be read")
        return []
