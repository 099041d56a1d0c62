"""Check the template with other tools: checkov for safety, and the linter on SAM's output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infrastructure.template.build import PROJECT
from tests.contracts.toolkits.environments import build_environment
from tests.support.template import build_app_template, translate_app_template

CONFIG = PROJECT / "infrastructure" / "template" / "checkov.yaml"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return checkov's report, with our configuration, on three templates at once, because it takes long to start.

    They are the published template, what CloudFormation makes of it, and the latter with an open bucket.
    """
    folder = tmp_path_factory.mktemp("checkov")
    opened = translate_app_template()
    del opened["Resources"]["Bucket"]["Properties"]["PublicAccessBlockConfiguration"]
    templates = {"published": build_app_template(), "made": translate_app_template(), "opened": opened}
    for name, template in templates.items():
        (folder / f"{name}.json").write_text(json.dumps(template))
    files = [f"{name}.json" for name in templates]
    command = [build_environment("template") / "checkov", "-f", *files, "--config-file", CONFIG, "-o", "json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode in (0, 1), result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def list_failed(report: dict[str, Any], name: str) -> list[tuple[str, str]]:
    failed = report["results"].get("failed_checks", [])
    return [(each["check_id"], each["resource"]) for each in failed if each["file_path"] == f"/{name}.json"]


@pytest.mark.parametrize("name", ["published", "made"])
def test_checkov_finds_nothing(name: str, report: dict[str, Any]) -> None:
    """It finds nothing in the published template or in what CloudFormation makes of it."""
    assert list_failed(report, name) == []
    assert report["summary"]["passed"] > 3 * 100
    assert report["summary"]["parsing_errors"] == 0


def test_checkov_would_find_an_open_bucket(report: dict[str, Any]) -> None:
    """This proves that its silence means something."""
    assert ("CKV_AWS_53", "AWS::S3::Bucket.Bucket") in list_failed(report, "opened")


def test_the_linter_finds_nothing_in_what_sam_makes(tmp_path: Path) -> None:
    """This covers the rules, permissions and stages that none of our files contains."""
    (tmp_path / "template.json").write_text(json.dumps(translate_app_template()))
    linter = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([linter, str(tmp_path / "template.json")], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
