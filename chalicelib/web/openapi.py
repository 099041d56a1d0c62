"""Generate the OpenAPI document of the routes from the app itself.

    python -m chalicelib.web.openapi app:app > openapi.json

The document is committed as `openapi.json`, and a test fails when the two differ. The routes, their path parameters and
their summaries come from the app. What each route takes and returns cannot be read from a signature, so it is declared
here; a test checks that no route is missing.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from chalicelib.models.predictions import CONTENT_TYPES
from chalicelib.pipeline.job_files import DOCUMENTS
from chalicelib.runs.folder import ENDED, ON_ITS_WAY

Schema = dict[str, Any]
OPEN = ("health", "show_page", "show_file")


def _object(required: str = "", **properties: Schema) -> Schema:
    """Return an object's schema; readers ignore members that it does not name."""
    found: Schema = {"type": "object", "properties": properties}
    return found | ({"required": required.split()} if required else {})


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY_OBJECT: Schema = {"type": "object"}
STATUS: Schema = {"type": "string", "enum": [*ON_ITS_WAY, *ENDED]}
REASON = _or_null(TEXT) | {
    "description": "Why the run is not on its way, or what it waits for; null while it goes on, and once deployed."
}
PREDICTION = _object("class probability", **{"class": TEXT, "probability": NUMBER})
TRIAL = _object(
    "name status hyperparameters objective",
    name=TEXT,
    status=TEXT,
    hyperparameters={"type": "object", "additionalProperties": TEXT},
    objective=_or_null(NUMBER),
    reason=_or_null(TEXT),
    started_at=_or_null(TIME),
    ended_at=_or_null(TIME),
    billable_seconds=_or_null(NUMBER),
    instance_type=_or_null(TEXT),
)
COST = _object(
    "expected_usd worst_usd spent_usd",
    expected_usd=_or_null(NUMBER) | {"description": "Before the run began; null where a price is missing."},
    worst_usd=_or_null(NUMBER) | {"description": "What its time limits let it cost at most."},
    spent_usd=_or_null(NUMBER) | {"description": "So far, by the billable seconds of its jobs."},
    refined_usd=_or_null(NUMBER) | {"description": "What it is expected to cost by the trials that have ended."},
    budget_usd=_or_null(NUMBER),
    prices_date=_or_null(TEXT),
    region=TEXT,
    spot={"type": "boolean"},
    unknown=_or_null(TEXT) | {"description": "Why nothing is known of its cost."},
    jobs=ANY_OBJECT,
    limits=ANY_OBJECT,
    endpoint=ANY_OBJECT | {"description": "What the endpoint costs, as a rate: it is in none of the sums."},
)
LISTED_RUN = _object(
    "run_id dataset status reason created_at",
    run_id=TEXT,
    dataset=TEXT,
    status=STATUS,
    reason=REASON,
    created_at=TIME,
)
MODEL = _object(
    "name status endpoint",
    name=TEXT,
    status={"type": "string", "enum": ["ready", "updating", "creating", "deleting", "failed"]},
    endpoint=TEXT,
    created_at=TIME,
    updated_at=TIME,
)

# For each view: the schema of its answer, and its error statuses besides 401, 500 and 502.
ANSWERS: Mapping[str, tuple[Schema, tuple[int, ...]]] = {
    "health": (_object("status version", status=TEXT, version=TEXT), ()),
    "show_page": (TEXT, (500,)),
    "show_file": (TEXT, (404,)),
    "list_models": (_object("models", models=_list(MODEL)), (503,)),
    "describe_model": (
        _object(
            "name status run_id",
            **MODEL["properties"],
            run_id=_or_null(TEXT),
            reason=_or_null(TEXT),
            metrics=_or_null(ANY_OBJECT),
            hyperparameters=_or_null(ANY_OBJECT),
        ),
        (404, 503),
    ),
    "delete_model": (_object("name status deleted", name=TEXT, status=TEXT, deleted=_list(TEXT)), (404, 409, 503)),
    "predict": (
        _object(
            "results run_id milliseconds",
            results=_list(_object("predictions", predictions=_list(PREDICTION))),
            run_id=TEXT,
            milliseconds=NUMBER,
        ),
        (400, 404, 409, 413, 415, 422, 503),
    ),
    "list_runs": (_object("runs next", runs=_list(LISTED_RUN), next=_or_null(TEXT)), (400, 503)),
    "describe_run": (
        _object(
            "run_id dataset status reason attempt created_at trials best links",
            **LISTED_RUN["properties"],
            attempt=WHOLE,
            ended_at=_or_null(TIME),
            seconds=NUMBER,
            billable_seconds=NUMBER,
            notes={"type": "array", "items": TEXT, "description": "What is not as the recipe asks for, and why."},
            cost=_or_null(COST),
            recipe=ANY_OBJECT,
            dataset_report=_or_null(ANY_OBJECT),
            trials=_list(TRIAL),
            best=_or_null(ANY_OBJECT),
            training=_or_null(ANY_OBJECT),
            decision=_or_null(ANY_OBJECT),
            metrics=_or_null(ANY_OBJECT),
            endpoint=_object("name status", name=TEXT, status=_or_null(TEXT)),
            links=_object("folder model report", folder=TEXT, model=TEXT, report=_or_null(TEXT)),
        ),
        (404, 503),
    ),
    "list_curves": (
        _object(
            "jobs",
            jobs=_list(
                _object(
                    "name start epochs best",
                    name=TEXT,
                    start=_or_null(ANY_OBJECT),
                    epochs=_list(ANY_OBJECT),
                    best=_or_null(ANY_OBJECT),
                )
            ),
        ),
        (404, 503),
    ),
    "describe_jobs": (
        _object(
            "job evaluation profiler_rules",
            job=TEXT,
            evaluation=_or_null(ANY_OBJECT),
            **{name: _or_null(ANY_OBJECT) for name in DOCUMENTS},
            profiler_rules=ANY_OBJECT,
        ),
        (404, 503),
    ),
    "stop_run": (_object("run_id status", run_id=TEXT, status=STATUS), (404, 409, 503)),
    "retry_run": (_object("run_id", run_id=TEXT), (404, 409, 503)),
    "upload_dataset": (
        _object("method url key expires_in", method=TEXT, url=TEXT, key=TEXT, expires_in=WHOLE),
        (400, 503),
    ),
    "remove_dataset": (
        _object(
            "name status runs models left",
            name=TEXT,
            status={"type": "string", "enum": ["deleted", "deleting"]},
            runs=_list(TEXT),
            models=_list(TEXT),
            left=_list(TEXT) | {"description": "What has to end first; empty where all is gone."},
        ),
        (400, 404, 503),
    ),
}
PICTURE: Schema = {"type": "string", "format": "binary"}
BODIES = {"predict": {"required": True, "content": {kind: {"schema": PICTURE} for kind in CONTENT_TYPES}}}
QUERIES: Mapping[str, Mapping[str, Schema]] = {
    "predict": {"top": {"type": "integer", "minimum": 1}},
    "list_runs": {"limit": {"type": "integer", "minimum": 1, "maximum": 200}, "after": TEXT},
}
MEDIA = {"show_page": "text/html", "show_file": "text/*"}
UNFINISHED = ("remove_dataset",)  # these may also answer 202
STATUSES = {"stop_run": 202, "retry_run": 202, "upload_dataset": 201}
ERRORS = {
    400: "The request cannot be understood.",
    401: "The token is missing, unknown or withdrawn.",
    404: "There is no such thing.",
    409: "The thing's state does not allow this.",
    413: "The picture is too large.",
    415: "The content type is none that is served.",
    422: "The picture cannot be read.",
    500: "Something failed on our side.",
    502: "A call to AWS, or the model, failed.",
    503: "Not yet: try again after the seconds that Retry-After says.",
}
ERROR = _object("error", error=_object("code message", code=TEXT, message=TEXT))


def describe_app(app: Any, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of a Chalice app."""
    paths = {
        path: {method.lower(): _describe_route(path, entry) for method, entry in sorted(methods.items())}
        for path, methods in sorted(app.routes.items())
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Whippet",
            "version": version,
            "description": "Drop a zip of labelled pictures into a bucket; get back a classifier that answers here.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": ERROR},
        },
    }


def _describe_route(path: str, entry: Any) -> dict[str, Any]:
    name = entry.view_name
    schema, errors = ANSWERS[name]
    own = () if name in OPEN else (401, 500, 502)
    done = {
        "description": "It is done.",
        "content": {MEDIA.get(name, "application/json"): {"schema": schema}},
    }
    later = done | {"description": "Not all is done yet: ask again.", "headers": {"Retry-After": {"schema": WHOLE}}}
    described: dict[str, Any] = {
        "operationId": name,
        "summary": (entry.view_function.__doc__ or "").strip(),
        "parameters": [_describe_parameter(each, "path", TEXT) for each in re.findall(r"\{(\w+)\}", path)]
        + [_describe_parameter(each, "query", kind) for each, kind in QUERIES.get(name, {}).items()],
        "responses": {str(STATUSES.get(name, 200)): done}
        | ({"202": later} if name in UNFINISHED else {})
        | {str(status): _describe_error(status) for status in sorted({*own, *errors})},
        "security": [] if name in OPEN else [{"token": []}],
    }
    return described | ({"requestBody": BODIES[name]} if name in BODIES else {})


def _describe_parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _describe_error(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    described: dict[str, Any] = {"description": ERRORS[status], "content": content}
    if status == 503:
        described["headers"] = {"Retry-After": {"schema": WHOLE}}
    return described


def write_document(document: dict[str, Any]) -> str:
    """Return the document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    module, _, attribute = sys.argv[1].partition(":")
    loaded = importlib.import_module(module)
    sys.stdout.write(write_document(describe_app(getattr(loaded, attribute), loaded.VERSION)))
