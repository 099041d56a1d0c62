"""Build the app's template as it is deployed, once for all the tests that read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from infrastructure.template.build import PROJECT

Template = dict[str, Any]


@cache
def _build() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.json"
        command = [sys.executable, "-m", "infrastructure.template.build", "--stage", "dev", "--to", str(path)]
        subprocess.run(command, cwd=PROJECT, check=True)
        return path.read_text()


@cache
def _translate() -> str:
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")  # the translator asks for a region, and does nothing there
    template = build_app_template()
    for body in list_resources(template, "AWS::Serverless::Function").values():
        body["Properties"]["CodeUri"] = {"Bucket": "code-bucket", "Key": "code.zip"}
    return json.dumps(Translator({}, Parser()).translate(template, {}))


def build_app_template() -> Template:
    """Return Chalice's part and ours as SAM, built in its own process as always. Each caller gets a copy."""
    template: Template = json.loads(_build())
    return template


def translate_app_template() -> Template:
    """Return the same as CloudFormation translates it from SAM, with its code in a bucket named elsewhere."""
    template: Template = json.loads(_translate())
    return template


def list_resources(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a type, by logical name."""
    return {name: body for name, body in template["Resources"].items() if body["Type"] == kind}
