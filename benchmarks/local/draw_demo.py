"""Draw the README's pictures from a real `make demo`: the terminal at its end, the page and the report.

    python -m benchmarks.local.draw_demo FOLDER

FOLDER holds the state of a local cloud, in which the demo runs if it has not.

They are `docs/demo.svg`, `docs/page.png` and `docs/report.png`.
"""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from playwright.sync_api import sync_playwright
from rich.console import Console

from benchmarks.local.demo import run_demo
from client.live import Snapshot, render
from localcloud.cli.demo import connect, tell_answers, tell_next, tell_report, tell_result
from localcloud.cli.digits import write_digits_zip
from localcloud.cli.next_steps import Left, keep_image
from localcloud.cli.questions import choose_pictures
from localcloud.common.addresses import Place
from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.web.browser import find_chromium, open_tab

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 132
SCREEN = {"width": 1280, "height": 800}
FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be fetched from elsewhere


def main(home: Path) -> None:
    with run_local_cloud(home) as cloud:
        user = connect(cloud.variables)
        if not cloud.list_runs("digits"):
            run_demo(cloud)
        wait_until_it_serves(cloud)
        run = user.api.describe_run(cloud.list_runs("digits")[0]["run_id"])
        draw_terminal(user, run, home)
        take_pictures(cloud, run)


def draw_terminal(user: Any, run: dict[str, Any], home: Path) -> None:
    """Draw what the demo prints at its end, with the paths and ports of a newcomer."""
    snapshot = Snapshot(run, read_epochs(user, run["run_id"]), run["seconds"])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ make demo[/]")
    console.print(render(snapshot))
    tell_result(snapshot.run, console)
    tell_report(user, run, home / "reports" / f"{run['run_id']}.html", console)
    zipped = write_digits_zip(home / "demo")
    pictures = choose_pictures(zipped)
    tell_answers(user, "digits", pictures, console)
    usual = Place(Path(".localcloud").absolute())
    image, kept = keep_image(pictures[0], home / "demo"), usual.home / "demo"
    tell_next(Left(usual, kept / zipped.name, "digits", run["links"]["folder"], kept / image.name, False), console)
    drawn = FONT_FACES.sub("", console.export_svg(title="Whippet")).replace(str(home), str(usual.home.name))
    (DOCS / "demo.svg").write_text(drawn)


def read_epochs(user: Any, run_id: str) -> dict[str, Any]:
    return {job["name"]: job["epochs"] for job in user.api.list_curves(run_id)["jobs"]}


def take_pictures(cloud: LocalCloud, run: dict[str, Any]) -> None:
    """Take pictures of the run's first screen on the page, and of the report's."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-gpu"])
        tab = open_tab(browser, f"http://127.0.0.1:{cloud.port}/")
        tab.page.set_viewport_size(SCREEN)
        tab.sign_in(cloud.variables["API_TOKEN"])
        tab.go(f"runs/{run['run_id']}")
        tab.page.wait_for_timeout(1500)
        tab.page.screenshot(path=DOCS / "page.png")
        tab.page.goto((cloud.home / "reports" / f"{run['run_id']}.html").as_uri())
        tab.page.screenshot(path=DOCS / "report.png")
        browser.close()


def wait_until_it_serves(cloud: LocalCloud, seconds: float = 60) -> None:
    """Wait for the model: after a restart an endpoint is in service before its process has loaded it."""
    endpoint = cloud.sagemaker.list_endpoints()["Endpoints"][0]["EndpointName"]
    runtime = cloud.client("sagemaker-runtime")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            runtime.invoke_endpoint(EndpointName=endpoint, Body=b"", ContentType="image/png")
        except runtime.exceptions.ModelError:
            return  # it has looked at the picture, and there is none
        except ClientError:
            time.sleep(0.5)
    raise SystemExit(f"The endpoint {endpoint} does not answer within {seconds:.0f} s of the local cloud's start.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
