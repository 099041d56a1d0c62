"""Test the template: Chalice's, merged with ours, built in its own process as always."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infrastructure.template.build import PROJECT, key_template, read_resources
from tests.localcloud.tiny_app import write_tiny_app


def run_builder(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infrastructure.template.build", "--project", str(project), "--stage", "local"]
    return subprocess.run([*command, *arguments], cwd=PROJECT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_app(tmp_path_factory.mktemp("project") / "tiny")


@pytest.fixture(scope="module")
def template(project: Path) -> Any:
    printed = run_builder(project, "--cache", str(project / "cache"))
    assert printed.returncode == 0, printed.stderr
    return json.loads(Path(printed.stdout.strip()).read_text())


def test_functions_have_their_rules_and_our_variables(template: Any) -> None:
    """Chalice's part and ours form one template."""
    pattern = template["Resources"]["OnUpload"]["Properties"]["Events"]["OnUploadEvent"]["Properties"]["Pattern"]
    assert pattern["source"] == ["aws.s3"]
    assert template["Globals"]["Function"]["Environment"]["Variables"]["BUCKET"] == {"Ref": "Bucket"}
    assert template["Resources"]["Bucket"]["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}


def test_each_event_function_has_its_own_dead_letter_queue(template: Any) -> None:
    """It has two retries before its queue; the API's function has no queue."""
    resources = template["Resources"]
    functions = {name: one["Properties"] for name, one in resources.items() if one["Type"].endswith("::Function")}
    queues = {
        name: one["DeadLetterQueue"]["TargetArn"]["Fn::GetAtt"][0] for name, one in functions.items() if "Events" in one
    }
    assert sorted(queues) == ["OnTest", "OnUpload", "Tick"]
    assert len(set(queues.values())) == 3
    assert all(resources[queue]["Type"] == "AWS::SQS::Queue" for queue in queues.values())
    assert all(functions[name]["EventInvokeConfig"]["MaximumRetryAttempts"] == 2 for name in queues)
    assert "DeadLetterQueue" not in functions["APIHandler"]


def test_no_package_is_built(template: Any, project: Path) -> None:
    """A template needs neither pip nor a zip."""
    assert template["Resources"]["APIHandler"]["Properties"]["CodeUri"] == "./deployment.zip"
    assert not list(project.rglob("*.zip"))


def test_a_cached_template_is_not_built_again(project: Path, template: Any) -> None:
    """The same content finds the same, unchanged file."""
    (cached,) = (project / "cache").iterdir()
    before = cached.stat().st_mtime_ns
    assert run_builder(project, "--cache", str(project / "cache")).stdout.strip() == str(cached)
    assert cached.stat().st_mtime_ns == before
    whole = cached.read_text()
    for spoilt in ("", whole[:100]):
        cached.write_text(spoilt)
        run_builder(project, "--cache", str(project / "cache"))
        assert cached.read_text() == whole


@pytest.mark.parametrize("changed", ["app.py", "chalicelib/new.py", ".chalice/config.json"])
def test_every_source_of_the_template_counts(tmp_path: Path, changed: str) -> None:
    """A change to the app, its library or its configuration changes the key."""
    project = write_tiny_app(tmp_path / "tiny")
    before = key_template(project, "local")
    (project / changed).parent.mkdir(exist_ok=True)
    (project / changed).write_text("# changed")
    assert key_template(project, "local") != before
    assert key_template(project, "dev") != key_template(project, "local")


def test_every_file_of_resources_counts(tmp_path: Path) -> None:
    """Our part is read from all files of its folder, and a change to any of them changes the key."""
    project, resources = write_tiny_app(tmp_path / "tiny"), tmp_path / "resources"
    resources.mkdir()
    keys = [key_template(project, "local", resources)]
    for name in ("one", "two"):
        (resources / f"{name}.json").write_text(json.dumps({"Resources": {name: {"Type": "AWS::SNS::Topic"}}}))
        keys.append(key_template(project, "local", resources))
    assert len(set(keys)) == 3
    assert sorted(read_resources(resources)["Resources"]) == ["one", "two"]


def test_a_broken_app_is_reported(tmp_path: Path) -> None:
    """The builder fails with the app's own error, and leaves no file."""
    project = write_tiny_app(tmp_path / "tiny")
    (project / "app.py").write_text("from chalice import Chalice\napp = Chalice('x')\nraise RuntimeError('broken app')")
    result = run_builder(project, "--cache", str(tmp_path / "cache"))
    assert result.returncode != 0
    assert "broken app" in result.stderr
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_the_apps_own_template_has_every_function(tmp_path: Path) -> None:
    """The deployed functions are those that the architecture names."""
    result = run_builder(PROJECT, "--to", str(tmp_path / "template.json"))
    assert result.returncode == 0, result.stderr
    resources = json.loads((tmp_path / "template.json").read_text())["Resources"]
    functions = {name for name, one in resources.items() if one["Type"].endswith("::Function")}
    wanted = {
        "APIHandler",
        "OnDatasetUploaded",
        "OnTuningJobChanged",
        "OnTrainingJobChanged",
        "OnEndpointChanged",
        "Sweep",
    }
    assert functions == wanted
