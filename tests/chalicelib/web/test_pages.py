"""The page as the app sends it, and what its routes say about a run's jobs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from chalice.test import Client

from chalicelib.costs.billing import count_billable
from chalicelib.pipeline.job_files import read_metrics, weigh_thresholds
from chalicelib.pipeline.observing import read_evaluation
from chalicelib.web.pages import FOLDER, list_files
from tests.chalicelib.app_client import TOKEN, ask, deploy, read_error, send_upload
from tests.fakes.world import BUCKET, World

FILES = sorted(list_files())
LARGEST = 200_000


def test_the_page_loads_in_little() -> None:
    """The whole page, as it is sent, is small."""
    assert sum((FOLDER / name).stat().st_size for name in FILES) <= LARGEST


def test_the_page_is_open_and_locked_down(world: World, client: Client) -> None:
    """It loads nothing from elsewhere, has no inline script, and may talk only to the app and the bucket."""
    response = ask(client, "GET", "/", {})
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(each.split(" ", 1) for each in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == f"'self' https://{BUCKET}.s3.example"
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|https?://", response.body.decode())


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(world: World, client: Client, name: str) -> None:
    """Each file has its content type, and equals the file in the folder."""
    response = ask(client, "GET", f"/web/{name}", {})
    assert response.body == (FOLDER / name).read_bytes()
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert response.headers["Content-Type"].startswith(kinds[name.rpartition(".")[2]])
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fauth.py", "%2Fetc%2Fpasswd", ".."])
def test_nothing_else_is_served(world: World, client: Client, name: str) -> None:
    """A name that is not a file of the page is 404, wherever it points."""
    assert read_error(ask(client, "GET", f"/web/{name}", {}))["code"] == "NotFound"


def test_curves_of_jobs_that_write(world: World, client: Client) -> None:
    """Each job that has written is listed with its epochs; an unfinished line is skipped."""
    run_id = deploy(world, client)
    lines = [{"start": {"epochs": 2}}, {"epoch": 1, "valid": {"score": 0.5}}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 2, "val'
    world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/metrics.jsonl", text.encode())
    told = json.loads(ask(client, "GET", f"/runs/{run_id}/curves").body)
    expected = {"name": f"{run_id}-train", "start": {"epochs": 2}, "epochs": [lines[1]], "best": None}
    assert told == {"jobs": [expected]}


def test_a_trial_whose_name_was_appended_to_its_prefix_is_read_all_the_same(world: World, client: Client) -> None:
    """AWS documents nowhere whether tuning appends it: the curve and the evaluation are found in either place."""
    run_id = deploy(world, client)
    trial = f"{run_id}-099-89abcdef"
    folder = f"runs/{run_id}/jobs/{trial}/{trial}/"
    world.s3.store(f"{folder}metrics.jsonl", b'{"epoch": 1}')
    world.s3.store(f"{folder}evaluation.json", b'{"test": {"images": 24}}')
    told = json.loads(ask(client, "GET", f"/runs/{run_id}/curves").body)
    assert {"name": trial, "start": None, "epochs": [{"epoch": 1}], "best": None} in told["jobs"]
    services = world.services()
    evaluation = read_evaluation(services.runs.get(run_id), trial, services)
    assert evaluation == {"test": {"images": 24}}


def test_what_jobs_found_out(world: World, client: Client) -> None:
    """The training job's findings are listed by name; those that it did not write are null."""
    run_id = deploy(world, client)
    folder = f"runs/{run_id}/jobs/{run_id}-train/"
    world.s3.store(f"{folder}rules.json", b'{"format": 1, "rules": []}')
    world.s3.store(f"{folder}profiler-reports/BatchSize.json", b'{"RuleTriggered": 0}')
    told = json.loads(ask(client, "GET", f"/runs/{run_id}/jobs").body)
    assert told["rules"] == {"format": 1, "rules": []}
    assert told["profiler_rules"] == {"BatchSize": {"RuleTriggered": 0}}
    assert told["evaluation"]["test"] == {"accuracy": world.score}
    assert told["baseline"] is None


@pytest.mark.parametrize("what", ["curves", "jobs", "pictures", "log"])
def test_unknown_runs_have_no_jobs(world: World, client: Client, what: str) -> None:
    """An unknown run is a 404, as everywhere."""
    assert ask(client, "GET", f"/runs/nothing/{what}").status_code == 404


def test_metrics_of_nothing() -> None:
    """A file that was only just begun has no records yet."""
    assert read_metrics(b"") == {"start": None, "epochs": [], "best": None}


def test_what_is_billed() -> None:
    """Each job counts as SageMaker bills it, else from its start to its end, or to now; a waiting job costs nothing."""
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    jobs = [
        {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:10+00:00"},
        {"started_at": "2026-01-01T00:00:30+00:00", "ended_at": None},
        {"started_at": None, "ended_at": None},
        {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:10+00:00", "billable_seconds": 4},
    ]
    assert count_billable(jobs, now) == 44


def test_what_a_threshold_does() -> None:
    """At each one: which share of the images is answered, and which share of the answers is right."""
    told = weigh_thresholds({"labels": [0, 1, 1, 0], "predicted": [0, 1, 0, 0], "probability": [0.9, 0.8, 0.6, 0.5]})
    at = {each["threshold"]: (each["coverage"], each["accuracy"]) for each in told}
    assert (at[0.0], at[0.6], at[0.7]) == ((1.0, 0.75), (0.75, pytest.approx(2 / 3)), (0.5, 1.0))
    assert 0.95 not in at  # no image is left
    assert weigh_thresholds({}) == []


def test_the_log_of_a_job(world: World, client: Client) -> None:
    """It is that of the final training unless another job is named; a job of another run is refused."""
    run_id = deploy(world, client)
    assert json.loads(ask(client, "GET", f"/runs/{run_id}/log").body) == {"job": f"{run_id}-train", "lines": []}
    world.logs.lines = {
        f"{run_id}-train": [f"line {number}" for number in range(80)],
        f"{run_id}-001-0123abcd": ["one"],
    }
    told = json.loads(ask(client, "GET", f"/runs/{run_id}/log").body)
    assert (len(told["lines"]), told["lines"][-1]) == (50, "line 79")
    assert len(json.loads(ask(client, "GET", f"/runs/{run_id}/log?lines=70").body)["lines"]) == 70
    assert json.loads(ask(client, "GET", f"/runs/{run_id}/log?job={run_id}-001-0123abcd").body)["lines"] == ["one"]
    assert read_error(ask(client, "GET", f"/runs/{run_id}/log?job=other")).get("code") == "BadRequest"
    assert read_error(ask(client, "GET", f"/runs/{run_id}/log?lines=0")).get("code") == "BadRequest"


def test_a_run_without_jobs_has_no_log(world: World, client: Client) -> None:
    """A rejected dataset never had a job."""
    world.upload("broken.zip", b"no zip")
    send_upload(client, "datasets/broken.zip")
    [run] = json.loads(ask(client, "GET", "/runs").body)["runs"]
    assert json.loads(ask(client, "GET", f"/runs/{run['run_id']}/log").body) == {"job": None, "lines": []}


def test_small_images_of_a_run(world: World, client: Client) -> None:
    """They are those that the training kept; a run from before that has none."""
    run_id = deploy(world, client)
    assert json.loads(ask(client, "GET", f"/runs/{run_id}/pictures").body) == {
        "mistakes": [],
        "suspects": [],
        "samples": [],
    }
    world.s3.store(
        f"runs/{run_id}/jobs/{run_id}-train/pictures.json", b'{"format": 1, "mistakes": [{"file": "a.png"}]}'
    )
    assert json.loads(ask(client, "GET", f"/runs/{run_id}/pictures").body)["mistakes"] == [{"file": "a.png"}]


def test_a_deployed_run_is_trained_again_with_another_recipe(world: World, client: Client) -> None:
    """The recipe in the body is that of the next attempt. Without one there is nothing to do; a bad one is refused."""
    run_id = deploy(world, client)
    headers = TOKEN | {"Content-Type": "application/json"}
    assert read_error(ask(client, "POST", f"/runs/{run_id}/retry")).get("code") == "Conflict"
    bad = ask(client, "POST", f"/runs/{run_id}/retry", headers, b'{"trials": 0}')
    assert (bad.status_code, read_error(bad)["code"]) == (422, "InvalidRecipe")
    again = json.loads(ask(client, "POST", f"/runs/{run_id}/retry", headers, b'{"trials": 3}').body)["run_id"]
    told = json.loads(ask(client, "GET", f"/runs/{again}").body)
    assert (again != run_id, told["attempt"], told["recipe"]["trials"]) == (True, 2, 3)


def test_a_recipe_is_put_beside_a_dataset(world: World, client: Client) -> None:
    """It is checked first, and answered with its defaults; its schema is a route of its own."""
    headers = TOKEN | {"Content-Type": "application/json"}
    told = json.loads(ask(client, "POST", "/datasets/dogs/recipe", headers, b'{"epochs": 3}').body)["recipe"]
    assert (told["epochs"], told["architecture"]) == (3, "resnet18")
    assert world.read("datasets/dogs.json") == {"epochs": 3}
    assert ask(client, "POST", "/datasets/dogs/recipe", headers, b"{").status_code == 422
    schema = json.loads(ask(client, "GET", "/recipes/schema").body)
    assert schema["properties"]["epochs"]["default"] == 8
