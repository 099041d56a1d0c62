"""The page as the app sends it, and what its routes say about a run's jobs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from chalice.test import Client

from chalicelib.pipeline.job_files import read_metrics
from chalicelib.pipeline.observing import read_evaluation
from chalicelib.pipeline.progress import count_billable_seconds
from chalicelib.web.pages import FOLDER
from tests.chalicelib.app_client import ask, deploy, read_error
from tests.fakes.world import BUCKET, World

FILES = sorted(path.name for path in FOLDER.iterdir())
LARGEST = 200_000


def test_the_page_loads_in_little() -> None:
    """The whole page, as it is sent, is small."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST


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


@pytest.mark.parametrize("what", ["curves", "jobs"])
def test_unknown_runs_have_no_jobs(world: World, client: Client, what: str) -> None:
    """An unknown run is a 404, as everywhere."""
    assert ask(client, "GET", f"/runs/nothing/{what}").status_code == 404


def test_metrics_of_nothing() -> None:
    """A file that was only just begun has no records yet."""
    assert read_metrics(b"") == {"start": None, "epochs": [], "best": None}


def test_what_is_billed() -> None:
    """Each job counts from its start to its end, or to now; a waiting job costs nothing."""
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    jobs = [
        {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:10+00:00"},
        {"started_at": "2026-01-01T00:00:30+00:00", "ended_at": None},
        {"started_at": None, "ended_at": None},
    ]
    assert count_billable_seconds(jobs, now) == 40.0
