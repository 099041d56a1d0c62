"""Run the notebook from top to bottom as a reader would, on the local cloud."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.conftest import SMALL_RECIPE
from tests.support.local_cloud import LocalCloud

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "train_and_deploy.ipynb"
CELL_SECONDS = 120


def read_notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs() -> None:
    """It holds no results, times or names of a machine."""
    code = [cell for cell in read_notebook().cells if cell.cell_type == "code"]
    assert code
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []


@pytest.fixture(scope="module")
def outputs(cloud: LocalCloud) -> list[dict[str, object]]:
    """Return the data of everything that the notebook shows, in order. Only the environment decides where it runs."""
    own = {"PER_CLASS": "8", "DATASET": "notebook", "RECIPE": json.dumps(SMALL_RECIPE)}
    outside = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    client = NotebookClient(read_notebook(), timeout=CELL_SECONDS)
    done = client.execute(env=outside | cloud.variables | own)
    shown = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.get("data", {"text/plain": output.get("text", "")}) for output in shown]


def test_it_shows_the_trials(outputs: list[dict[str, object]]) -> None:
    """The trials are shown as a table and a plot, with the best hyperparameters below."""
    tables = [str(each["text/html"]) for each in outputs if "text/html" in each]
    assert any("learning_rate" in table and "Completed" in table for table in tables)
    assert any("image/png" in each for each in outputs)
    assert any(str(each["text/plain"]).startswith("{'learning_rate'") for each in outputs)


def test_it_ends_with_an_answer_and_nothing_left(cloud: LocalCloud, outputs: list[dict[str, object]]) -> None:
    """The endpoint returned classes, and is deleted afterwards with everything made from the dataset."""
    tables = [str(each["text/html"]) for each in outputs if "text/html" in each]
    assert any("probability" in table for table in tables)
    assert "gone: whippet-local-notebook" in str(outputs[-1]["text/plain"])
    listed = cloud.sagemaker.list_endpoints(NameContains="-notebook-")["Endpoints"]
    assert [each for each in listed if each["EndpointStatus"] != "Deleting"] == []
    for prefix in ("datasets/notebook.", "runs/whippet-local-notebook-", "models/notebook/"):
        assert "Versions" not in cloud.s3.list_object_versions(Bucket=cloud.bucket, Prefix=prefix), prefix
    assert cloud.list_runs("notebook") == []
    models = cloud.sagemaker.list_models(NameContains="-notebook-")["Models"]
    configs = cloud.sagemaker.list_endpoint_configs(NameContains="-notebook-")["EndpointConfigs"]
    assert (models, configs) == ([], [])
