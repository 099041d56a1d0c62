"""From a zip dropped in the page to an image's classes, on the local cloud with real trials."""

from __future__ import annotations

import json
import re

import httpx

from tests.end_to_end.conftest import SMALL_RECIPE
from tests.support.local_cloud import LocalCloud
from tests.support.pictures import build_colour_zip, draw_test_picture
from tests.web.conftest import OpenTab

WITHIN = 400_000  # milliseconds


def test_from_a_dropped_zip_to_a_prediction(cloud: LocalCloud, open_any: OpenTab) -> None:
    """The page uploads straight to the bucket, the run is followed to its end, and the model classifies an image."""
    cloud.upload("dropped.json", json.dumps(SMALL_RECIPE | {"trials": 1, "parallel_trials": 1}).encode())
    tab = open_any(f"{cloud.variables['API_URL']}/")
    tab.sign_in(cloud.variables["API_TOKEN"])
    tab.go("datasets")
    tab.limit_uploads(20_000)
    tab.drop(".drop", "dropped.zip", "application/zip", build_colour_zip(seed=5))
    tab.page.get_by_text(re.compile(r"\d+ images in \d classes")).wait_for()
    tab.page.get_by_role("button", name="Upload and train").click()
    tab.page.get_by_text(re.compile(r"[1-9]\d?% of .* kB sent")).wait_for()
    assert 0 < tab.page.get_by_role("progressbar").evaluate("bar => bar.value") < 1
    tab.keep("journey-0-sending")
    tab.limit_uploads(-1)
    tab.page.get_by_text("Checked: its run has begun").wait_for()
    tab.keep("journey-1-uploaded")
    tab.page.get_by_role("link", name="Follow the run").click()
    tab.page.locator("[aria-current=step]").wait_for()
    tab.keep("journey-2-on-its-way")
    tab.page.get_by_role("link", name="Use the model").wait_for(timeout=WITHIN)
    tab.page.get_by_role("heading", name="Class by class").wait_for()
    report = httpx.get(tab.page.get_by_role("link", name="Open the report").get_attribute("href") or "")
    assert (report.status_code, report.headers["content-type"].partition(";")[0]) == (200, "text/html")
    tab.keep("journey-3-deployed")
    tab.page.get_by_role("link", name="Use the model").click()
    picture = draw_test_picture("green")
    tab.drop(".drop", "green.png", "image/png", picture)
    best = tab.page.get_by_role("list", name="Classes, the likeliest first").get_by_role("listitem").first
    best.wait_for()
    told = cloud.api.post("/models/dropped/predict", content=picture, headers={"Content-Type": "image/png"}).json()
    assert best.locator(".name").inner_text() == told["results"][0]["predictions"][0]["class"]
    tab.keep("journey-4-asked")


def test_a_rejected_zip_shows_its_problems_where_it_was_dropped(cloud: LocalCloud, open_any: OpenTab) -> None:
    """Without leaving the page: what is wrong, and how to fix it. A file that is not a zip is not even sent."""
    tab = open_any(f"{cloud.variables['API_URL']}/")
    tab.sign_in(cloud.variables["API_TOKEN"])
    tab.go("datasets")
    tab.drop(".drop", "not packed.txt", "text/plain", b"x")
    tab.page.get_by_text("is not a .zip").wait_for()
    tab.drop(".drop", "torn & broken.zip", "application/zip", b"this is no archive")
    tab.page.get_by_role("button", name="Upload and train").click()
    tab.page.get_by_text("Not accepted. Fix this, then upload it again").wait_for()
    tab.keep("dataset-rejected")
    assert tab.find_barriers() == []


def test_the_bucket_lets_the_page_in_by_its_own_rule(cloud: LocalCloud) -> None:
    """The template's CORS rule is the bucket's: PUT from anywhere, since the signature is what lets an upload in."""
    (rule,) = cloud.s3.get_bucket_cors(Bucket=cloud.bucket)["CORSRules"]
    assert (rule["AllowedMethods"], rule["AllowedOrigins"]) == (["PUT"], ["*"])
    place = cloud.api.post("/datasets/anything").json()
    asked = {"Origin": f"http://127.0.0.1:{cloud.port}", "Access-Control-Request-Method": "PUT"}
    answer = httpx.options(place["url"], headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in ("*", asked["Origin"])
    assert "PUT" in answer.headers["access-control-allow-methods"]
