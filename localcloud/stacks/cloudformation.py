"""Adapt CloudFormation's requests to what moto's engine takes, which is not quite what AWS's takes.

A template comes in the request or lies in a bucket. AWS's own translator translates SAM's resources, as the transform
does on the service. A bucket with RetainExceptOnCreate is retained. The rest is moto's engine with the models of
`resources.py`: change sets are executed within the request, and a resource that fails ends the stack there.

A stack's functions are created but do not run. This machine's own app runs, from the same template (`provisioning.py`).
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.sax.saxutils import escape

from localcloud.common.addresses import REGION
from localcloud.protocol.wsgi import Environ, WsgiApp
from localcloud.stacks.makers import Clients

log = logging.getLogger(__name__)
Template = dict[str, Any]
TRANSFORM = "AWS::Serverless-2016-10-31"
TAKES_TEMPLATE = {"CreateStack", "UpdateStack", "CreateChangeSet"}


class RefusedTemplate(ValueError):
    """No stack can be made from this template."""


class Stacks:
    """moto's WSGI application with CloudFormation as AWS's clients expect it."""

    def __init__(self, moto: WsgiApp, clients: Clients) -> None:
        self._moto, self._clients = moto, clients
        self._knows: Callable[[str], bool] | None = None
        self._lock = threading.Lock()  # moto's engine confuses two simultaneous change sets of one stack

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        sent = environ["wsgi.input"].read()
        told = {name: values[0] for name, values in parse_qs(sent.decode(), keep_blank_values=True).items()}
        try:
            if told.get("Action") in TAKES_TEMPLATE:
                require_region(environ)
                sent = urlencode(self._adapt(told)).encode()
            environ |= {"wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": str(len(sent))}
            with self._lock:
                return self._moto(environ, start_response)
        except Exception as error:  # the caller is told whatever moto's engine raises
            log.exception("%s of %s", told.get("Action"), told.get("StackName"))
            return refuse(start_response, f"{type(error).__name__}: {error}")

    def _adapt(self, told: dict[str, str]) -> dict[str, str]:
        """Return the request with its template inline, in terms that moto's engine knows."""
        told = dict(told)
        text = self._fetch(told.pop("TemplateURL")) if "TemplateURL" in told else told.get("TemplateBody", "")
        if not text:
            return told  # UsePreviousTemplate
        template = adapt_template(json.loads(text))
        models = self._check(template)
        if told.get("ImportExistingResources") == "true":
            models.Bucket.importable |= list_importable(template)
        return told | {"TemplateBody": json.dumps(template)}

    def _fetch(self, url: str) -> str:
        bucket, key = split_template_url(url)
        return str(self._clients("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def _check(self, template: Template) -> Any:
        """Return the module that makes a template's resources. Raises RefusedTemplate for a type it cannot make."""
        from localcloud.stacks import resources

        if self._knows is None:
            self._knows = resources.install(self._clients)
        if unknown := sorted(
            {body["Type"] for body in template["Resources"].values() if not self._knows(body["Type"])}
        ):
            raise RefusedTemplate(f"The local cloud's stacks make no {', '.join(unknown)}.")
        return resources


def require_region(environ: Environ) -> None:
    """Raise RefusedTemplate for a request to another region: a stack's resources are made by clients of one region."""
    signed = environ.get("HTTP_AUTHORIZATION", "")
    if "/cloudformation/" in signed and f"/{REGION}/cloudformation/" not in signed:
        raise RefusedTemplate(f"The local cloud has one region, {REGION}.")


def adapt_template(template: Template) -> Template:
    """Return a template after its transform, with deletion policies that moto knows."""
    if template.get("Transform") == TRANSFORM:
        template = translate(template)
    for body in template["Resources"].values():
        if body.get("DeletionPolicy") == "RetainExceptOnCreate":
            body["DeletionPolicy"] = "Retain"
    return template


def list_importable(template: Template) -> set[str]:
    """List the buckets that a stack may import where they exist: those named by text, not by an intrinsic function."""
    buckets = (body for body in template["Resources"].values() if body["Type"] == "AWS::S3::Bucket")
    names = (body.get("Properties", {}).get("BucketName") for body in buckets if body.get("DeletionPolicy") == "Retain")
    return {name for name in names if isinstance(name, str)}


def translate(template: Template) -> Template:
    """Apply the transform to SAM's resources. Raises RefusedTemplate with the translator's message."""
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    try:
        translated: Template = Translator({}, Parser()).translate(template, {})
    except InvalidDocumentException as error:
        raise RefusedTemplate("; ".join(each.message for each in error.causes)) from error
    return translated


def split_template_url(url: str) -> tuple[str, str]:
    """Return the bucket and the key of an S3 object's URL, with the bucket in its host name or in its path."""
    address = urlsplit(url)
    host, path = address.netloc, address.path.lstrip("/")
    bucket, found, _ = host.partition(".s3")
    return (bucket, path) if found else (path.partition("/")[0], path.partition("/")[2])


def refuse(start_response: Any, message: str) -> Iterable[bytes]:
    """Answer with a ValidationError in the query protocol's form."""
    error = f"<Error><Type>Sender</Type><Code>ValidationError</Code><Message>{escape(message)}</Message></Error>"
    body = f"<ErrorResponse>{error}<RequestId>local</RequestId></ErrorResponse>".encode()
    start_response("400 Bad Request", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]
