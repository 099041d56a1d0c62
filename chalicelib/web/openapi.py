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

from chalicelib.web.fields import Schema, reference
from chalicelib.web.schemas import NAMED

OPEN = ("health", "show_page", "show_file", "show_inner_file", "show_openapi")
TAGS = {
    "models": "Deployed models and their predictions.",
    "uploads": "Sending datasets and large images.",
    "runs": "What became of each dataset.",
    "app": "The page, its files, and this document.",
}
PREDICT_ERRORS = (400, 404, 409, 413, 415, 422, 503)
# For each view: its tag, the schema of its answer, and its error statuses besides 401, 500 and 502.
ANSWERS: Mapping[str, tuple[str, str | None, tuple[int, ...]]] = {
    "health": ("app", "Health", ()),
    "show_page": ("app", None, (500,)),
    "show_file": ("app", None, (404,)),
    "show_inner_file": ("app", None, (404,)),
    "show_openapi": ("app", None, ()),
    "list_models": ("models", "Models", (503,)),
    "describe_model": ("models", "ModelDetails", (404, 503)),
    "delete_model": ("models", "DeletedModel", (404, 409, 503)),
    "predict": ("models", "Prediction", PREDICT_ERRORS),
    "begin_upload": ("uploads", "Upload", (400, 413, 503)),
    "describe_upload": ("uploads", "Upload", (404, 503)),
    "complete_upload": ("uploads", "CompletedUpload", (400, 404, 503)),
    "upload_dataset": ("uploads", "DatasetUpload", (400, 503)),
    "remove_dataset": ("uploads", "RemovedDataset", (400, 404, 503)),
    "list_runs": ("runs", "Runs", (400, 503)),
    "describe_run": ("runs", "Run", (404, 503)),
    "list_curves": ("runs", "Curves", (404, 503)),
    "describe_jobs": ("runs", "JobDocuments", (404, 503)),
    "stop_run": ("runs", "RunStatus", (404, 409, 503)),
    "retry_run": ("runs", "RunId", (404, 409, 422, 503)),
    "show_pictures": ("runs", "Pictures", (404, 503)),
    "read_log": ("runs", "Log", (400, 404, 503)),
    "show_recipe_schema": ("uploads", "RecipeSchema", ()),
    "tell_weights": ("uploads", "Weights", (400, 503)),
    "write_recipe": ("uploads", "Recipe", (400, 422, 503)),
    "approve_run": ("runs", "RunStatus", (404, 409, 503)),
}
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
BYTES: Schema = {
    "type": "string",
    "format": "binary",
    "description": "The bytes of an image file; any image type is read.",
}
FORM: Schema = {
    "type": "object",
    "properties": {"file": {"type": "array", "items": BYTES, "maxItems": 16, "description": "The image files."}},
}
RECIPE: Schema = {"type": "object", "description": "A recipe: GET /recipes/schema is its JSON Schema."}
BODIES: Mapping[str, Mapping[str, Schema]] = {
    "predict": {
        "application/octet-stream": BYTES,
        "multipart/form-data": FORM,
        "application/json": reference("PredictionRequest"),
    },
    "begin_upload": {"application/json": reference("UploadRequest")},
    "complete_upload": {"application/json": reference("SentParts")},
    "retry_run": {"application/json": RECIPE},
    "write_recipe": {"application/json": RECIPE},
}
OPTIONAL_BODIES = ("retry_run",)
PATHS = {
    "name": ("The dataset's name, which is its model's too.", "dogs"),
    "run_id": ("The run's id.", "whippet-dev-dogs-1f2e3d4c"),
    "id": ("The upload's id.", "0123456789abcdef0123456789abcdef"),
    "folder": ("The part of the page.", "run"),
}
QUERIES: Mapping[str, Mapping[str, tuple[Schema, str, Any]]] = {
    "predict": {
        "top": ({"type": "integer", "minimum": 1}, "How many classes to return.", 5),
        "threshold": ({"type": "number", "minimum": 0, "maximum": 1}, "Say whether the best class reaches this.", 0.8),
        "explain": ({"type": "boolean"}, "Draw over each image what decided about its answer.", True),
    },
    "list_runs": {
        "limit": ({"type": "integer", "minimum": 1, "maximum": 200}, "How many runs to return.", 20),
        "after": (TEXT, "The `next` of the page before.", "8236472900000/whippet-dev-dogs-1f2e3d4c"),
    },
    "tell_weights": {
        "architecture": (TEXT, "The network; by default the one that recipes have by default.", "resnet18")
    },
    "read_log": {
        "job": (TEXT, "The job's name; by default the one that failed or runs.", "whippet-dev-dogs-1f2e3d4c-train"),
        "lines": ({"type": "integer", "minimum": 1, "maximum": 10000}, "How many of the last lines to return.", 50),
    },
}
MEDIA = {"show_page": "text/html", "show_file": "text/*", "show_inner_file": "text/*"}  # every other answer is JSON
UNFINISHED = ("remove_dataset",)  # these may also answer 202
STATUSES = {"stop_run": 202, "retry_run": 202, "approve_run": 202, "upload_dataset": 201, "begin_upload": 201}
ERRORS = {
    400: "The request cannot be understood.",
    401: "The token is missing, unknown or withdrawn.",
    404: "There is no such thing.",
    409: "The thing's state does not allow this.",
    413: "The image or upload is too large.",
    415: "The body is neither an image nor a form or JSON that holds one.",
    422: "The image, or the recipe, cannot be read.",
    500: "Something failed on our side.",
    502: "A call to AWS, or the model, failed.",
    503: "Not yet: try again after the seconds that Retry-After says.",
}
SERVERS = [
    {"url": "http://127.0.0.1:8000/api", "description": "The local cloud, as `make up` starts it."},
    {
        "url": "https://{api}.execute-api.{region}.amazonaws.com/api",
        "description": "AWS: the URL that `make deploy` prints.",
        "variables": {"api": {"default": "API_ID"}, "region": {"default": "us-east-1"}},
    },
]


def describe_app(app: Any, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of a Chalice app. A route whose view is not declared here is not described."""
    paths = {
        path: {method.lower(): _describe_route(path, entry) for method, entry in sorted(methods.items())}
        for path, methods in sorted(app.routes.items())
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Whippet",
            "version": version,
            "description": "Drop a zip of labelled images into a bucket; get back a classifier that answers here.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": SERVERS,
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {path: described for path, methods in paths.items() if (described := _leave_out(methods))},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(NAMED.items())),
        },
    }


def _leave_out(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {method: described for method, described in methods.items() if described}


def _describe_route(path: str, entry: Any) -> dict[str, Any]:
    name = entry.view_name
    if name not in ANSWERS:
        return {}
    tag, schema, errors = ANSWERS[name]
    own = () if name in OPEN else (401, 500, 502)
    shape: Schema = reference(schema) if schema else {"type": "object" if name == "show_openapi" else "string"}
    done = {"description": "It is done.", "content": {MEDIA.get(name, "application/json"): {"schema": shape}}}
    later = done | {"description": "Not all is done yet: ask again.", "headers": {"Retry-After": {"schema": WHOLE}}}
    described: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "summary": (entry.view_function.__doc__ or "").strip(),
        "parameters": [
            *(_describe_parameter(each, "path", TEXT, *PATHS[each]) for each in re.findall(r"\{(\w+)\}", path)),
            *(_describe_parameter(each, "query", *given) for each, given in QUERIES.get(name, {}).items()),
        ],
        "responses": {str(STATUSES.get(name, 200)): done}
        | ({"202": later} if name in UNFINISHED else {})
        | {str(status): _describe_error(status) for status in sorted({*own, *errors})},
        "security": [] if name in OPEN else [{"token": []}],
    }
    return described | (
        {"requestBody": _describe_body(BODIES[name], name not in OPTIONAL_BODIES)} if name in BODIES else {}
    )


def _describe_body(kinds: Mapping[str, Schema], is_required: bool) -> dict[str, Any]:
    return {"required": is_required, "content": {kind: {"schema": schema} for kind, schema in kinds.items()}}


def _describe_parameter(name: str, place: str, schema: Schema, description: str, example: Any) -> dict[str, Any]:
    told = {"name": name, "in": place, "required": place == "path", "description": description}
    return told | {"schema": schema, "example": example}


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
