"""Define the Lambda functions: routes, event rules, the schedule. Each one parses, makes one call, and renders.

    api                       the routes
    on_dataset_uploaded       S3: Object Created below datasets/
    on_tuning_job_changed     SageMaker: one of our tuning jobs changed state
    on_training_job_changed   SageMaker: one of our training jobs changed state; a tuning job's trials are left out
    on_endpoint_changed       SageMaker: one of our endpoints changed state
    sweep                     the schedule: every active run, every recent upload

An event only says "look again": the functions take nothing from it but a name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, cast
from urllib.parse import unquote

from aws_lambda_powertools import Logger
from chalice import Rate, Response
from chalice.app import CloudWatchEvent, MultiDict, Request

from chalicelib import errors
from chalicelib.models import catalog, predictions, uploads
from chalicelib.pipeline import intake, job_files, progress, strays
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.removal import Unfinished, delete_dataset
from chalicelib.pipeline.sweep import sweep as sweep_all
from chalicelib.recipes.documents import recipe_schema
from chalicelib.runs.identity import find_run_of_training
from chalicelib.services import ServiceProvider, Services, connect_services
from chalicelib.settings import Settings
from chalicelib.web import pages, routing
from chalicelib.web.answers import JSON, App, Headers, render_error
from chalicelib.web.measuring import Meter

# The event rules are built when the app is packaged. At that time these are placeholders that CloudFormation fills in.
APP_NAME = os.environ.get("APP_NAME", Settings.app_name)
STAGE = os.environ.get("STAGE", Settings.stage)
BUCKET = os.environ.get("BUCKET", APP_NAME)
PREFIX = f"{APP_NAME}-{STAGE}-"
VERSION = "0.1.0"
REMOVAL_SECONDS = 30  # a caller waits this long before asking again for a removal that is not finished
View = Callable[..., dict[str, Any]]

logger = Logger(service=APP_NAME)
services = ServiceProvider(partial(connect_services, logger))
app = App(app_name="whippet")
meter = Meter(APP_NAME, PREFIX.removesuffix("-"))
app.middleware("all")(meter.trace)
app.middleware("all")(meter.measure)
count = meter.count


def answer(view: View, params: dict[str, str], *, is_open: bool, status: int) -> Response:
    """Render what a view returns, or its error, as JSON. No other detail of a failure leaves the function."""
    try:
        if is_open:
            return Response(json.dumps(view()), dict(JSON), status)
        who = services.current.tokens.check(get_request().headers.get("authorization"))
        named = {name: unquote(value) for name, value in params.items()}
        with logger.append_context_keys(token=who, **{key: value for key, value in named.items() if key == "run_id"}):
            told = view(services.current.at_page(routing.find_page(get_request().context)), **named)
            is_left = isinstance(told, Unfinished)
            headers: Headers = JSON | ({"Retry-After": str(REMOVAL_SECONDS)} if is_left else {})
            return Response(json.dumps(told, default=str), headers, 202 if is_left else status)
    except errors.InvalidSettings:
        return tell_not_set_up()
    except errors.WhippetError as error:
        count("ServerErrors" if error.status >= 500 else "ClientErrors")
        logger.warning("refused", extra={"status": error.status, "code": error.code, "why": error.message})
        return render_error(error)
    except Exception:
        count("ServerErrors")
        logger.exception("a view failed")
        return render_error(errors.WhippetError("Something failed on our side. The log of the function says what."))


def tell_not_set_up() -> Response:
    count("ServerErrors")
    logger.exception("the function is not set up")
    return render_error(errors.WhippetError("The app is not set up. The log of the function says what it lacks."))


def route(path: str, method: str = "GET", *, is_open: bool = False, status: int = 200) -> Callable[[View], View]:
    """Serve a path. A view gets services and the path's parameters; an open view needs no token and gets neither."""

    def register(view: View) -> View:
        @wraps(view)
        def call(**params: str) -> Response:
            return answer(view, params, is_open=is_open, status=status)

        # Every content type is let in, so that we word the refusals.
        app.route(path, methods=[method], content_types=["*/*"], name=view.__name__)(call)
        return view

    return register


def get_query(name: str) -> str | None:
    return cast("str | None", (get_request().query_params or MultiDict({})).get(name))


def get_request() -> Request:
    request = app.current_request
    assert request is not None
    return request


def serve(name: str, find_origins: Callable[[], list[str]] = list) -> Response:
    """Serve a file of the page. It needs no token: it holds no one's data, and the page asks for the token itself."""
    try:
        return Response(pages.read_file(name), pages.describe_file(name, *find_origins()), 200)
    except errors.WhippetError as error:
        return tell_not_set_up() if error.status >= 500 else render_error(error)


@app.route("/", name="show_page")
def show_page() -> Response:
    """The page for people, as HTML: runs, models, datasets."""
    path = get_request().context.get("path", "/")
    if not path.endswith("/"):  # without the slash the page's links would leave the stage
        return Response("", {"Location": f"{path}/"}, 302)
    return serve(pages.INDEX, lambda: [services.current.bucket.find_origin()])


@app.route("/web/{name}", name="show_file")
@app.route("/web/{folder}/{name}", name="show_inner_file")
def show_file(name: str, folder: str = "") -> Response:
    """A file of the page, or of one part of it: a script, a style sheet, an icon."""
    return serve("/".join(unquote(each) for each in (folder, name) if each))


@route("/health", is_open=True)
def health() -> dict[str, Any]:
    """Say that the app answers. This makes no call to AWS."""
    return {"status": "ok", "version": VERSION}


@app.route("/openapi.json", name="show_openapi")
def show_openapi() -> Response:
    """Return this API's description (OpenAPI 3.1). It needs no token."""
    from chalicelib.web.openapi import describe_app, write_document

    return Response(write_document(describe_app(app, VERSION)), dict(JSON), 200)


@app.route(routing.CATCH_ALL, name="find_nothing")
def find_nothing(proxy: str) -> Response:
    """Answer a path that no route has: API Gateway passes it on because of this one."""
    return render_error(errors.NotFound(f"There is no route /{proxy[:200]}. GET /openapi.json lists them."))


@route("/models")
def list_models(services: Services) -> dict[str, Any]:
    """List the models that answer, or soon will."""
    return {"models": catalog.list_models(services)}


@route("/models/{name}")
def describe_model(services: Services, name: str) -> dict[str, Any]:
    """Describe a model: its status, the run that produced it, its metrics."""
    return catalog.describe_model(name, services)


@route("/models/{name}", "DELETE")
def delete_model(services: Services, name: str) -> dict[str, Any]:
    """Take a model down, which ends its cost. Its runs stay readable."""
    return catalog.delete_model(name, services)


@route("/models/{name}/predict", "POST")
def predict(services: Services, name: str) -> dict[str, Any]:
    """Classify images: one as the body's bytes, several as a form or as JSON. Returns the classes, best first."""
    request = get_request()
    body, content_type = cast(bytes, request.raw_body), request.headers.get("content-type", "")
    question = predictions.Question(body, content_type, get_query("top"), get_query("threshold"), get_query("explain"))
    result = predictions.predict(name, question, services)
    count("Predictions", len(result["results"]))
    count("PredictionTime", result["milliseconds"], "Milliseconds")
    return result


@route("/runs")
def list_runs(services: Services) -> dict[str, Any]:
    """List the runs, newest first."""
    return progress.list_runs(get_query("limit"), get_query("after"), services)


@route("/runs/{run_id}")
def describe_run(services: Services, run_id: str) -> dict[str, Any]:
    """Describe a run: its status, trials, best hyperparameters, metrics, and where its folder is."""
    return progress.describe_run(run_id, services)


@route("/runs/{run_id}/curves")
def list_curves(services: Services, run_id: str) -> dict[str, Any]:
    """List the epochs of every job of a run, while the jobs run and afterwards."""
    return job_files.list_curves(run_id, services)


@route("/runs/{run_id}/jobs")
def describe_jobs(services: Services, run_id: str) -> dict[str, Any]:
    """Return the findings about a run's model and its training: evaluation, baseline, debugger, profiler."""
    return job_files.describe_jobs(run_id, services)


@route("/runs/{run_id}/pictures")
def show_pictures(services: Services, run_id: str) -> dict[str, Any]:
    """Return small images of a run: its mistakes, labels that look wrong, and test images of each class."""
    return job_files.show_pictures(run_id, services)


@route("/runs/{run_id}/log")
def read_log(services: Services, run_id: str) -> dict[str, Any]:
    """Return the last lines that a job of the run has logged; without `job` of the one that failed or runs."""
    return job_files.read_log(run_id, get_query("job"), get_query("lines"), services)


@route("/runs/{run_id}/stop", "POST", status=202)
def stop_run(services: Services, run_id: str) -> dict[str, Any]:
    """Stop a run: its jobs are stopped, and nothing is deployed."""
    return {"run_id": run_id, "status": intake.stop_run(run_id, "a person", services)}


@route("/runs/{run_id}/retry", "POST", status=202)
def retry_run(services: Services, run_id: str) -> dict[str, Any]:
    """Begin the next attempt on the same input, with the recipe in the body, or else as it is now."""
    return {"run_id": intake.retry_run(run_id, services, cast(bytes, get_request().raw_body))}


@route("/recipes/schema")
def show_recipe_schema(_: Services) -> dict[str, Any]:
    """Return the JSON Schema of recipes."""
    return recipe_schema()


@route("/weights")
def tell_weights(services: Services) -> dict[str, Any]:
    """Say whether a run would begin with ImageNet's weights of a network, as far as that is known."""
    return job_files.tell_weights(get_query("architecture"), services)


@route("/datasets/{name}/recipe", "POST")
def write_recipe(services: Services, name: str) -> dict[str, Any]:
    """Put a recipe beside a dataset, for the runs that begin from now on."""
    return {"recipe": intake.write_recipe(name, cast(bytes, get_request().raw_body), services)}


@route("/runs/{run_id}/approve", "POST", status=202)
def approve_run(services: Services, run_id: str) -> dict[str, Any]:
    """Deploy the model of a run that ended undecided or declined. It begins within two minutes."""
    return {"run_id": run_id, "status": intake.approve_run(run_id, "a person", services)}


@route("/uploads", "POST", status=201)
def begin_upload(services: Services) -> dict[str, Any]:
    """Return where to PUT a large image or a dataset's zip: one address, or one for each part from 100 MB on."""
    return uploads.begin_upload(cast(bytes, get_request().raw_body), intake.check_name, services)


@route("/uploads/{id}")
def describe_upload(services: Services, id: str) -> dict[str, Any]:
    """Return which parts of an upload have arrived, and where to PUT the others, so that it can go on."""
    return uploads.describe_upload(id, services)


@route("/uploads/{id}/complete", "POST")
def complete_upload(services: Services, id: str) -> dict[str, Any]:
    """Put the parts of an upload together. A dataset's run begins then."""
    return uploads.complete_upload(id, cast(bytes, get_request().raw_body), services)


@route("/datasets/{name}", "POST", status=201)
def upload_dataset(services: Services, name: str) -> dict[str, Any]:
    """Return a URL to PUT the dataset's zip to. The run begins when the zip arrives."""
    return intake.sign_dataset_upload(name, services)


@route("/datasets/{name}", "DELETE")
def remove_dataset(services: Services, name: str) -> dict[str, Any]:
    """Remove a dataset: its versions, recipe, runs and model. A 202 says what is left: ask again later."""
    return delete_dataset(name, services)


def react(what: str, look: Callable[[Services], object]) -> None:
    """Look again because of an event. Errors are raised, so that the event is delivered again."""
    with logger.append_context_keys(cause=what):
        try:
            look(services.current)
        except errors.RunNotFound as error:
            logger.info("the event is of no run of ours", extra={"why": error.message})


def of_ours(detail_type: str, member: str, name: dict[str, str]) -> dict[str, Any]:
    return {"source": ["aws.sagemaker"], "detail-type": [detail_type], "detail": {member: [name]}}


@app.on_cw_event(
    {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [BUCKET]}, "object": {"key": [{"prefix": "datasets/"}]}},
    }
)
def on_dataset_uploaded(event: CloudWatchEvent) -> None:
    """Handle the upload of a dataset or a recipe. EventBridge's key is not URL-encoded: a plus is a plus."""
    if event.detail["bucket"]["name"] == services.current.settings.bucket:
        react("upload", partial(strays.look_at_upload, event.detail["object"]["key"]))


@app.on_cw_event(
    of_ours("SageMaker HyperParameter Tuning Job State Change", "HyperParameterTuningJobName", {"prefix": PREFIX})
)
def on_tuning_job_changed(event: CloudWatchEvent) -> None:
    """Handle a tuning job's change of state. Its name is the run's. A failure is counted, for an alarm."""
    if event.detail.get("HyperParameterTuningJobStatus") == "Failed":
        count("TuningFailures")
    advance_ours(event.detail["HyperParameterTuningJobName"], "tuning job")


@app.on_cw_event(of_ours("SageMaker Training Job State Change", "TrainingJobName", {"wildcard": f"{PREFIX}*-train"}))
def on_training_job_changed(event: CloudWatchEvent) -> None:
    """Handle the change of state of a run's training job. No trial's name has the ending that its name has."""
    if run_id := find_run_of_training(event.detail["TrainingJobName"]):
        advance_ours(run_id, "training job")


@app.on_cw_event(of_ours("SageMaker Endpoint State Change", "EndpointName", {"prefix": PREFIX}))
def on_endpoint_changed(event: CloudWatchEvent) -> None:
    """Handle an endpoint's change of state: look at every run that waits for it."""
    if (name := event.detail["EndpointName"]).startswith(services.current.settings.prefix):
        react("endpoint", lambda services: intake.advance_by_endpoint(name, services))


def advance_ours(run_id: str, what: str) -> None:
    """Advance a run, unless its name belongs to another stage."""
    if run_id.startswith(services.current.settings.prefix):
        react(what, lambda services: advance(run_id, services))


@app.schedule(Rate(2, unit=Rate.MINUTES))
def sweep(_: CloudWatchEvent) -> None:
    """Look at every active run and every recent upload, in case an event was lost."""
    for failure in sweep_all(services.current):
        count("SweepFailures")
        logger.warning("the sweep could not look", extra={"why": failure})
