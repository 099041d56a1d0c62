"""The template under others' eyes: checkov's checks of what is safe, and the linter on what SAM makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infrastructure.template import PROJECT
from tests.contracts.environments import build_environment
from tests.support.template import build_app_template, translate_app_template

CONFIG = PROJECT / "infrastructure" / "checkov.yaml"


def check(template: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Checkov's report on a template, with our configuration."""
    (folder / "template.json").write_text(json.dumps(template))
    checkov = build_environment("template") / "checkov"
    command = [checkov, "-f", folder / "template.json", "--config-file", CONFIG, "-o", "json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode in (0, 1), result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def list_failed(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["check_id"], each["resource"]) for each in report["results"].get("failed_checks", [])]


@pytest.mark.parametrize("build", [build_app_template, translate_app_template])
def test_checkov_finds_nothing(build: Any, tmp_path: Path) -> None:
    """In the template as it is published, and in what CloudFormation makes of it."""
    report = check(build(), tmp_path)
    assert list_failed(report) == []
    assert report["summary"]["passed"] > 100
    assert report["summary"]["parsing_errors"] == 0


def test_checkov_would_find_an_open_bucket(tmp_path: Path) -> None:
    """So its silence means something."""
    template = translate_app_template()
    del template["Resources"]["Bucket"]["Properties"]["PublicAccessBlockConfiguration"]
    assert ("CKV_AWS_53", "AWS::S3::Bucket.Bucket") in list_failed(check(template, tmp_path))


def test_the_linter_finds_nothing_in_what_sam_makes(tmp_path: Path) -> None:
    """The rules, permissions and stages that stand in no file of ours."""
    (tmp_path / "template.json").write_text(json.dumps(translate_app_template()))
    linter = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([linter, str(tmp_path / "template.json")], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
