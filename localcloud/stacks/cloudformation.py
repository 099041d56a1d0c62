"""CloudFormation at the door of moto's: what moto's engine takes is not quite what AWS's takes, and is made so here.

A template comes in the request or lies in a bucket; SAM's resources are translated by AWS's own translator, as the
transform does on the service; a bucket that is retained except when its creation fails is retained. The rest is moto's
engine with `stack_models`: change sets are executed in the request, and a resource that fails ends the stack there.

A stack's functions are made, and not run: those of this machine's own app are, from the same template (`provision`).
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
    """A template that no stack can be made of."""


class Stacks:
    """moto's WSGI application with CloudFormation as AWS's clients expect it."""

    def __init__(self, moto: WsgiApp, clients: Clients) -> None:
        self._moto, self._clients = moto, clients
        self._knows: Callable[[str], bool] | None = None
        self._lock = threading.Lock()  # moto's engine takes two change sets of one stack at once for one

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
        except Exception as error:  # whatever moto's engine meets is told to who asked
            log.exception("%s of %s", told.get("Action"), told.get("StackName"))
            return refuse(start_response, f"{type(error).__name__}: {error}")

    def _adapt(self, told: dict[str, str]) -> dict[str, str]:
        """A request with its template in it, in words that moto's engine knows."""
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
        """What a template's resources are made by. Raises RefusedTemplate for a type that nothing makes."""
        from localcloud.stacks import resources

        if self._knows is None:
            self._knows = resources.install(self._clients)
        if unknown := sorted(
            {body["Type"] for body in template["Resources"].values() if not self._knows(body["Type"])}
        ):
            raise RefusedTemplate(f"The local cloud's stacks make no {', '.join(unknown)}.")
        return resources


def require_region(environ: Environ) -> None:
    """A stack's resources are made by clients of one region. Raises RefusedTemplate for a request to another."""
    signed = environ.get("HTTP_AUTHORIZATION", "")
    if "/cloudformation/" in signed and f"/{REGION}/cloudformation/" not in signed:
        raise RefusedTemplate(f"The local cloud has one region, {REGION}.")


def adapt_template(template: Template) -> Template:
    """A template after its transform, with the deletion policies that moto knows."""
    if template.get("Transform") == TRANSFORM:
        template = translate(template)
    for body in template["Resources"].values():
        if body.get("DeletionPolicy") == "RetainExceptOnCreate":
            body["DeletionPolicy"] = "Retain"
    return template


def list_importable(template: Template) -> set[str]:
    """The names of the buckets that a stack may take in where they exist: those that no function makes."""
    buckets = (body for body in template["Resources"].values() if body["Type"] == "AWS::S3::Bucket")
    names = (body.get("Properties", {}).get("BucketName") for body in buckets if body.get("DeletionPolicy") == "Retain")
    return {name for name in names if isinstance(name, str)}


def translate(template: Template) -> Template:
    """What the transform makes of SAM's resources. Raises RefusedTemplate in the translator's words."""
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    try:
        translated: Template = Translator({}, Parser()).translate(template, {})
    except InvalidDocumentException as error:
        raise RefusedTemplate("; ".join(each.message for each in error.causes)) from error
    return translated


def split_template_url(url: str) -> tuple[str, str]:
    """The bucket and the key of an S3 object's address, with the bucket in its host name or in its path."""
    address = urlsplit(url)
    host, path = address.netloc, address.path.lstrip("/")
    bucket, found, _ = host.partition(".s3")
    return (bucket, path) if found else (path.partition("/")[0], path.partition("/")[2])


def refuse(start_response: Any, message: str) -> Iterable[bytes]:
    """A ValidationError in the query protocol's form."""
    error = f"<Error><Type>Sender</Type><Code>ValidationError</Code><Message>{escape(message)}</Message></Error>"
    body = f"<ErrorResponse>{error}<RequestId>local</RequestId></ErrorResponse>".encode()
    start_response("400 Bad Request", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]
