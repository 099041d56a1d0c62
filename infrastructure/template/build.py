"""Build the CloudFormation (SAM) template of the whole app: Chalice's output for `app.py`, merged with
`resources/*.json`.

Chalice's own `package` command would first build the Lambda's zip with pip, which takes a minute, although the template
does not depend on it. So its builders are run here without that step. That takes a second, or no time if the template
is in a cache, whose key is the content of everything that the template is made from.

    python -m infrastructure.template.build --stage STAGE --to FILE
    python -m infrastructure.template.build --stage STAGE --cache FOLDER    prints the path of the cached template
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infrastructure.template.functions import finish_functions

Template = dict[str, Any]
PROJECT = Path(__file__).resolve().parents[2]
RESOURCES = Path(__file__).with_name("resources")
# The app reads these on import, for its event rules. One template serves every app, stage and bucket.
PLACEHOLDERS = {"APP_NAME": "${AppName}", "STAGE": "${StageName}", "BUCKET": "${Bucket}"}


def build_template(project: Path, stage: str, resources: Path = RESOURCES) -> Template:
    """Build the template of a Chalice project's stage. Raises RuntimeError, with Chalice's message, if Chalice refuses.

    It imports the project's `app` module, so call it once, in a process of its own.
    """
    os.environ |= PLACEHOLDERS
    generated = _generate(project, stage)
    finish_functions(generated)
    pass_every_method(generated)
    template = _merge([read_resources(resources), generated])
    _serialise_dashboards(template)
    return template


def pass_every_method(template: Template) -> None:
    """Let the API pass every method of every path on to the app, which tells a wrong path from a wrong method.

    API Gateway answers both alike, with 403 "Missing Authentication Token".
    """
    api = template["Resources"].get("RestAPI", {}).get("Properties", {})
    for methods in api.get("DefinitionBody", {}).get("paths", {}).values():
        first = next(iter(methods.values()))
        known = ("produces", "responses", "x-amazon-apigateway-integration", "parameters")
        methods["x-amazon-apigateway-any-method"] = {name: first[name] for name in known if name in first}


def list_resources(folder: Path) -> list[Path]:
    """List the files of our part of the template, one per subject, in the order in which they are merged."""
    return sorted(folder.glob("*.json"))


def read_resources(folder: Path) -> Template:
    """Return our part of the template, merged from all of its files."""
    return _merge([json.loads(path.read_text()) for path in list_resources(folder)])


def _generate(project: Path, stage: str) -> Template:
    from chalice.cli.factory import CLIFactory
    from chalice.deploy.appgraph import ApplicationGraphBuilder, DependencyBuilder
    from chalice.deploy.deployer import BuildStage, InjectDefaults, PolicyGenerator, SwaggerBuilder
    from chalice.deploy.swagger import CFNSwaggerGenerator
    from chalice.deploy.validate import validate_configuration
    from chalice.package import SAMTemplateGenerator
    from chalice.policy import AppPolicyGenerator
    from chalice.utils import OSUtils

    config = CLIFactory(str(project), environ=os.environ).create_config_obj(stage)
    validate_configuration(config)
    application = ApplicationGraphBuilder().build(config, stage)
    resources = DependencyBuilder().build_dependencies(application)
    osutils = OSUtils()
    policies = PolicyGenerator(AppPolicyGenerator(osutils), osutils)
    steps: list[Any] = [InjectDefaults(), _NoPackage(), policies, SwaggerBuilder(CFNSwaggerGenerator())]
    BuildStage(steps).execute(config, resources)
    options: Any = _Offline()
    template: Template = SAMTemplateGenerator(config, options).generate(resources)
    return template


class _NoPackage:
    """Replaces the step of Chalice's build that runs pip: only the archive's name is needed."""

    def handle(self, _config: Any, resource: Any) -> None:
        if type(resource).__name__ == "DeploymentPackage":
            resource.filename = "./deployment.zip"


class _Offline:
    """Answers offline what Chalice would ask AWS."""

    def service_principal(self, service: str) -> str:
        return f"{service}.amazonaws.com"


def _serialise_dashboards(template: Template) -> None:
    """Serialise dashboard bodies: `resources/` has them as JSON, CloudFormation wants text."""
    for body in template["Resources"].values():
        if body["Type"] == "AWS::CloudWatch::Dashboard":
            body["Properties"]["DashboardBody"] = {"Fn::Sub": json.dumps(body["Properties"]["DashboardBody"])}


def _merge(parts: list[Template]) -> Template:
    """Merge several templates into one; where two conflict, the earlier wins."""
    from chalice.package import TemplateDeepMerger

    merged: Template = {}
    for part in parts:
        merged = TemplateDeepMerger().merge(merged, part)
    return merged


def key_template(project: Path, stage: str, resources: Path = RESOURCES) -> str:
    """Return 16 hex digits that change whenever the template could."""
    digest = hashlib.sha256(f"{stage} {version('chalice')} {version('aws-lambda-powertools')}".encode())
    sources = [
        project / "app.py",
        *sorted((project / "chalicelib").rglob("*")),
        *sorted((project / ".chalice").glob("*")),
    ]
    for path in [*sources, *list_resources(resources), *sorted(Path(__file__).parent.glob("*.py"))]:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_template(project: Path, stage: str, folder: Path, resources: Path = RESOURCES) -> Path:
    """Return the path of the stage's template in a folder, building it only if it is not there yet as a whole."""
    path = folder / f"template-{key_template(project, stage, resources)}.json"
    if not is_whole(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_template(build_template(project, stage, resources), path)
    return path


def is_whole(path: Path) -> bool:
    """Return whether a template is there and can be read: a crash of the machine may leave an empty or a cut one."""
    try:
        return bool(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return False


def write_template(template: Template, path: Path) -> None:
    half_written = path.with_suffix(".part")
    half_written.write_text(json.dumps(template, indent=1) + "\n")
    half_written.replace(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the app's CloudFormation template.")
    parser.add_argument("--stage", default="dev")
    parser.add_argument("--project", type=Path, default=PROJECT)
    parser.add_argument("--resources", type=Path, default=RESOURCES)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FILE")
    where.add_argument("--cache", type=Path, metavar="FOLDER")
    told = parser.parse_args(arguments)
    if told.cache:
        print(cache_template(told.project, told.stage, told.cache, told.resources))
    else:
        write_template(build_template(told.project, told.stage, told.resources), told.to)
        print(told.to)


if __name__ == "__main__":
    main()
