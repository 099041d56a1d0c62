"""Measure how soon the page can be used, in a real browser on loopback, and how long a list of 1,000 runs takes.

Measured within the browser, from the navigation's start to the moment at which the list stands there, with a new tab
each time. The peer is the same list by the route alone, asked by an HTTP client.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.results import claim, write_result
from chalicelib.aws.buckets import Bucket
from chalicelib.runs.folder import Runs
from chalicelib.runs.identity import Run
from chalicelib.runs.listing import Facts
from chalicelib.web.pages import FOLDER
from tests.fakes.world import BUCKET, World
from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.web.browser import find_chromium
from tests.web.stories import tell_of_a_model, write_evaluation

ROUNDS = 7
RUNS = 1000
CLASSES = 250
SHOWN = """() => new Promise((resolve) => {
    const look = () => document.querySelector("main h1") ? resolve(performance.now()) : requestAnimationFrame(look);
    look();
})"""


def index_runs(cloud: LocalCloud, count: int) -> None:
    """Put that many runs of the last weeks into the list."""
    runs, now = Runs(Bucket(cloud.s3, cloud.bucket)), datetime.now(UTC)

    def index(number: int) -> None:
        run = Run(
            run_id=f"whippet-local-many-{number:08x}",
            dataset=f"many-{number % 40}",
            bucket=cloud.bucket,
            key="datasets/many.zip",
            version=None,
            etag="",
            size=0,
            attempt=1,
            created_at=(now - timedelta(minutes=10 * number)).isoformat(),
            endpoint="",
            code_uri="",
            source={},
        )
        for status in ("checking", "tuning", "training", "deploying", "deployed"):  # as many keys as a run leaves
            runs.index(run, status, None, Facts(0.95, 350, 10, 742, 0.06) if status == "deployed" else None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(index, range(count)))


def store_run(cloud: LocalCloud, classes: int) -> str:
    """Write the files of an ended run of so many classes. Returns its id."""
    world = World()
    run_id = tell_of_a_model(world)
    write_evaluation(world, run_id, classes)
    for key in world.list_keys(f"runs/{run_id}/"):
        body = world.s3.versions[key][-1].body.replace(BUCKET.encode(), cloud.bucket.encode())
        cloud.s3.put_object(Bucket=cloud.bucket, Key=key, Body=body)
    return run_id


def time_page(browser: Browser, cloud: LocalCloud, place: str = "") -> float:
    """Return the seconds from opening a new tab, signed in, to the view's heading."""
    context = browser.new_context()
    context.add_init_script(f"localStorage.setItem('whippet.token', '{cloud.variables['API_TOKEN']}')")
    page = context.new_page()
    page.goto(f"{cloud.variables['API_URL']}/{place}", wait_until="commit")
    seconds = float(page.evaluate(SHOWN)) / 1000
    context.close()
    return seconds


def time_route(cloud: LocalCloud) -> float:
    """Return the seconds that an HTTP client needs to read every run, page by page."""
    start, after, found = time.perf_counter(), "", 0
    while after is not None:
        page = cloud.api.get("/runs", params={"limit": 100, "after": after}).raise_for_status().json()
        found, after = found + len(page["runs"]), page["next"]
    assert found == RUNS
    return time.perf_counter() - start


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        run_local_cloud(Path(folder) / "state") as cloud,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=find_chromium())
        empty = [time_page(browser, cloud) for _ in range(ROUNDS + 1)][1:]
        index_runs(cloud, RUNS)
        full = [time_page(browser, cloud) for _ in range(ROUNDS + 1)][1:]
        route = [time_route(cloud) for _ in range(ROUNDS)]
        run = f"#/runs/{store_run(cloud, CLASSES)}"
        large = [time_page(browser, cloud, run) for _ in range(ROUNDS + 1)][1:]
        browser.close()
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    write_result(
        "page",
        [
            claim("the page, all files together", sum(sizes) / 1000, "kB", at_most=200),
            claim("the page is interactive, empty system", statistics.median(empty), "s", at_most=1, all=empty),
            claim("the page lists its runs, of 1,000", statistics.median(full), "s", at_most=0.5, all=full),
            claim("a run of 250 classes is shown", statistics.median(large), "s", at_most=1, all=large),
            claim("the route tells all 1,000, page by page", statistics.median(route), "s", all=route),
        ],
        packages=["playwright"],
    )


if __name__ == "__main__":
    main()
