"""What a user does with the page: sign in, judge a run, upload a folder, compare, try again."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Route

from chalicelib.pipeline.progress import describe_run
from tests.fakes.world import World
from tests.support.pictures import build_colour_zip, draw_test_picture
from tests.web.browser import Tab
from tests.web.conftest import OpenTab
from tests.web.stories import advance, fill_with_runs, tell_of_a_model, write_evaluation

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "ETag", "ETag": '"e"'}
PLACE = "https://pictures.s3.example/"
PIECE = 700  # bytes of a part, in place of 64 MB
DROP_BESIDE = """() => {
    const carried = new DataTransfer();
    for (const name of ["a.zip", "b.zip", "c.txt"]) carried.items.add(new File(["x"], name));
    const event = new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true});
    document.querySelector("h1").dispatchEvent(event);
}"""
KEEP_SENT = """() => {  // the driver cannot read a body that is a Blob
    const {open, send} = XMLHttpRequest.prototype;
    window.sent = new Map();
    XMLHttpRequest.prototype.open = function (method, url) { this.to = url; return open.call(this, method, url); };
    XMLHttpRequest.prototype.send = function (body) { window.sent.set(this.to, body); return send.call(this, body); };
}"""
READ_SENT = """() => Promise.all([...window.sent].map(async ([url, body]) => {
    const bytes = new Uint8Array(await body.arrayBuffer());
    return [url, btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join(""))];
}))"""
SHOWN = """() => [...document.querySelectorAll(".run-head *")].filter((each) => {
    const box = each.getBoundingClientRect();
    const isWithin = box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
    return !each.children.length && box.height > 0 && isWithin;
}).map((each) => each.closest("div, p, small").innerText).join("\\n")"""


def test_an_address_with_the_token_signs_in_and_every_tab_is_signed_out(address: str, open_any: OpenTab) -> None:
    """`make up` prints it. The token leaves the address at once, and all tabs share it until one signs out."""
    tab = open_any(address)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.goto(f"{address}#token=ann-token")
    tab.page.get_by_role("heading", name="Runs", level=1).wait_for()
    assert tab.page.url == f"{address}#/runs"
    assert not any("ann-token" in url for url in asked)
    other = tab.page.context.new_page()
    other.goto(address)
    other.get_by_role("heading", name="Runs", level=1).wait_for()
    other.get_by_role("button", name="Sign out").click()
    tab.page.get_by_label("Token").wait_for()
    tab.page.get_by_label("Token").fill('  Authorization: Bearer "ann-token" ')
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Runs", level=1).wait_for()


def test_the_first_screen_of_a_run_answers_the_questions(world: World, tab: Tab) -> None:
    """At 1280 x 800, without scrolling: what is deployed, accuracy and interval, weakest class, cost, next step."""
    run_id = tell_of_a_model(world)
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.go(f"runs/{run_id}")
    shown = tab.page.evaluate(SHOWN)
    told = describe_run(run_id, world.services())
    assert "96.4%" in shown
    assert "95% sure: 93.9% to 97.9%" in shown  # Wilson's interval of 337 of 350
    assert "he final training. It scored 95.0%; the best trial 93.0%." in shown
    assert re.search(r"Weakest class\s+3: 60\.0% of its 35 test images right", shown)
    assert re.search(r"Cost\s+free here; on AWS", shown)
    assert told["advice"][0][1:] in shown
    assert "Open the report" in tab.page.locator(".run-head").inner_text()


def test_a_run_of_250_classes_is_shown_whole(world: World, tab: Tab) -> None:
    """Long names fit a phone; a class that was never recognised is in the headline; every class is in a table."""
    run_id = tell_of_a_model(world)
    write_evaluation(world, run_id, 250)
    key = f"runs/{run_id}/result.json"
    result = world.read(key)
    result["metrics"]["test"]["classes"][7]["recall"] = 0.0
    world.s3.store(key, json.dumps(result).encode())
    tab.go(f"runs/{run_id}")
    assert "number 7: no test image of it was recognised" in tab.page.locator(".facts").inner_text()
    tab.page.get_by_text("All 250 classes", exact=True).click()
    assert tab.page.get_by_role("table", name="Quality by class").get_by_role("row").count() == 251
    tab.keep("run-250-classes")


def test_runs_are_filtered_and_compared(world: World, tab: Tab) -> None:
    """The list shows numbers, a filter narrows it, and two ticked runs are compared, with what changed between them."""
    fill_with_runs(world, 30)
    first = tell_of_a_model(world)
    again = world.services().runs.get(first)
    world.upload("digits.json", b'{"epochs": 3, "trials": 2}')
    world.upload("digits.zip", build_colour_zip(1, counts={"train": 3, "valid": 3}))
    advance(world, 8)
    second = next(run["run_id"] for run in world.services().runs.list_all(1)[0])
    assert second != again.run_id
    tab.go("runs")
    rows = tab.page.get_by_role("list", name="All runs").get_by_role("listitem")
    rows.first.wait_for()
    assert re.search(r"9\d\.\d%.*350 images, 10 classes", tab.page.locator(".runs").inner_text().replace("\n", " "))
    tab.page.get_by_label("Filter").fill("digits deployed")
    tab.page.get_by_text("2 runs of 32 match").wait_for()
    assert rows.locator("visible=true").count() == 2
    tab.keep("runs-filtered")
    for run_id in (first, second):
        tab.page.get_by_role("checkbox", name=f"Compare digits, {run_id}").check()
    tab.page.get_by_role("link", name="Compare the two").click()
    tab.page.get_by_role("heading", name="Two runs compared").wait_for()
    changed = tab.page.get_by_role("table", name="Members of the recipe that differ").inner_text()
    assert re.search(r"epochs\s+8\s+3", changed)
    tab.keep("runs-compared")
    assert tab.find_barriers() == []


def test_a_filter_searches_the_runs_that_are_not_shown_yet(world: World, tab: Tab) -> None:
    """The list begins with the newest fifty; a filter reads on until it has all, and says how many it has read."""
    fill_with_runs(world, 260)
    tab.go("runs")
    rows = tab.page.get_by_role("list", name="All runs").get_by_role("listitem")
    rows.first.wait_for()
    assert rows.count() == 50
    tab.page.get_by_label("Filter").fill("many-000000ff")
    tab.page.get_by_text("1 run of 260 matches").wait_for()
    assert rows.locator("visible=true").count() == 1


def test_a_run_is_run_again_with_changes(world: World, tab: Tab) -> None:
    """Its recipe is a form made from the schema; a wrong one is refused in a list; a right one begins an attempt."""
    run_id = tell_of_a_model(world)
    tab.go(f"runs/{run_id}")
    tab.page.get_by_role("link", name="Run again with changes").click()
    tab.page.get_by_role("heading", name="Run digits again").wait_for()
    tab.page.get_by_text("All settings").click()
    tab.page.get_by_label("trials", exact=True).fill("2")
    tab.page.get_by_label("parallel trials").fill("7")
    tab.keep("run-again")
    assert tab.find_barriers() == []
    tab.page.get_by_role("button", name="Run it again").click()
    tab.page.locator(".callout.bad li").first.wait_for()
    tab.complaints.clear()  # the browser notes the 422
    tab.page.get_by_label("parallel trials").fill("1")
    tab.page.get_by_role("button", name="Run it again").click()
    tab.page.get_by_text("attempt 2").wait_for()
    newest = world.services().runs.list_all(1)[0][0]["run_id"]
    assert describe_run(newest, world.services())["recipe"]["trials"] == 2


def test_a_model_is_tried_with_a_test_image_and_a_threshold(world: World, tab: Tab) -> None:
    """One click asks; the slider says what share is answered, and how much of it is right; code has the address."""
    tell_of_a_model(world)
    shown = base64.b64encode(draw_test_picture("green")).decode()
    assert isinstance(world.runtime.answer, dict)
    map_ = {"class": "3", "image": f"data:image/jpeg;base64,{shown}"}
    world.runtime.answer = {"results": [world.runtime.answer["results"][0] | {"explanation": map_}], "run_id": "r"}
    tab.go("models/digits")
    tab.page.get_by_role("button", name="Try a test image of 3").click()
    tab.page.get_by_role("list", name="Classes, the likeliest first").wait_for()
    slider = tab.page.get_by_label("Answer only when sure at least")
    slider.fill("0.9")
    tab.page.get_by_text("Not sure enough").wait_for()
    tab.page.get_by_role("button", name="Why? Show what it looked at").click()
    tab.page.get_by_alt_text("What spoke for 3").wait_for()
    tab.page.wait_for_function("document.querySelector('.heat img').naturalWidth > 0")
    told = tab.page.get_by_text(re.compile(r"At 90%, \d+\.\d% of the test images get an answer"))
    assert re.search(r"and \d+\.\d% of those answers are right", told.inner_text())
    code = tab.page.locator("pre.code")
    assert f"{urlsplit(tab.address).netloc}/api/models/digits/predict" in code.inner_text()
    tab.page.get_by_label("Python").check()
    assert "import os, urllib.request" in code.inner_text()
    tab.keep("model")
    assert tab.find_barriers() == []


def write_folder(folder: Path) -> Path:
    """Write a folder of labelled images as a user has it, with what an operating system leaves beside them."""
    for kind in ("green", "red"):
        (folder / "colours" / kind).mkdir(parents=True)
        for number in range(3):
            (folder / "colours" / kind / f"{number} ä.png").write_bytes(draw_test_picture(kind))
    (folder / "colours" / ".DS_Store").write_bytes(b"x")
    return folder / "colours"


def test_a_folder_is_zipped_and_sent_in_parts_over_a_cut_connection(world: World, tab: Tab, tmp_path: Path) -> None:
    """It is shown before anything is sent; a part whose connection is cut is sent again; the recipe goes first."""
    cut = {2}
    done: list[Any] = []

    def answer_upload(route: Route) -> None:
        size = json.loads(route.request.post_data or "")["size"]
        sizes = [PIECE] * (size // PIECE) + [size % PIECE]
        told = [{"number": number, "size": length, "url": f"{PLACE}{number}"} for number, length in enumerate(sizes, 1)]
        route.fulfill(status=201, json={"id": "0123", "parts": told, "complete": "uploads/0123/complete"})

    def take_part(route: Route) -> None:
        number = int(route.request.url.rpartition("/")[2])
        if number in cut:
            cut.clear()
            route.abort("connectionreset")
            return
        route.fulfill(status=200, headers=CORS)

    def complete(route: Route) -> None:
        done.append(json.loads(route.request.post_data or ""))
        route.fulfill(json={"id": "0123", "key": "datasets/colours.zip"})

    tab.page.evaluate(KEEP_SENT)
    tab.page.route("**/uploads", answer_upload)
    tab.page.route("**/uploads/0123/complete", complete)
    tab.page.route(f"{PLACE}**", take_part)
    tab.go("datasets")
    tab.page.locator("#zip-folder").set_input_files(write_folder(tmp_path))
    tab.page.get_by_text("6 images in 2 classes").wait_for()
    assert tab.page.locator("canvas.thumb").count() == 6
    tab.page.get_by_label("Quick").check()
    tab.keep("dataset-chosen")
    assert tab.find_barriers() == []
    assert world.list_keys("datasets/") == []
    tab.page.get_by_role("button", name="Upload and train").click()
    tab.page.get_by_text("Uploaded. It is being checked").wait_for()
    tab.complaints.clear()  # the browser notes the connection that was cut
    assert world.read("datasets/colours.json")["trials"] == 2
    sent = {int(url.rpartition("/")[2]): base64.b64decode(body) for url, body in tab.page.evaluate(READ_SENT)}
    assert {each["number"] for each in done[0]["parts"]} == set(sent)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(sent[number] for number in sorted(sent))))
    assert archive.testzip() is None
    assert sorted(archive.namelist())[0] == "colours/green/0 ä.png"
    assert len(archive.namelist()) == 6


def test_an_upload_goes_on_after_a_reload_with_the_parts_that_are_missing(tab: Tab, tmp_path: Path) -> None:
    """The page says what was interrupted. The same file goes on; what has arrived is not sent again."""
    size, sent, done = 5 * PIECE, [], []
    arrived: set[int] = set()
    file = tmp_path / "large.zip"
    file.write_bytes(build_colour_zip().ljust(size, b"\0")[:size])

    def describe(route: Route) -> None:
        parts = [
            {"number": number, "size": PIECE} | ({"etag": "e"} if number in arrived else {"url": f"{PLACE}{number}"})
            for number in range(1, 6)
        ]
        told = {"id": "0123", "size": size, "parts": parts, "complete": "uploads/0123/complete"}
        route.fulfill(status=201 if route.request.method == "POST" else 200, json=told)

    def take_part(route: Route) -> None:
        number = int(route.request.url.rpartition("/")[2])
        if number > 2 and not is_back:
            return  # no answer: the connection hangs
        sent.append(number)
        arrived.add(number)
        route.fulfill(status=200, headers=CORS)

    def complete(route: Route) -> None:
        done.append(json.loads(route.request.post_data or "")["parts"])
        route.fulfill(json={"id": "0123", "key": "datasets/large.zip"})

    is_back = False
    for place, answer in (("**/uploads", describe), ("**/uploads/0123", describe), (f"{PLACE}**", take_part)):
        tab.page.route(place, answer)
    tab.page.route("**/uploads/0123/complete", complete)
    tab.page.on("dialog", lambda dialog: dialog.accept())  # the page warns before it is left
    tab.go("datasets")
    tab.page.locator("#zip").set_input_files(file)
    tab.page.get_by_role("button", name="Upload and train").click()
    tab.page.get_by_text(f"{40}% of").wait_for()
    tab.page.reload()
    tab.page.get_by_text("The upload of large was interrupted").wait_for()
    tab.keep("dataset-interrupted")
    is_back = True
    tab.page.locator("#zip").set_input_files(file)
    tab.page.get_by_text("1.4 kB of 3.5 kB have been sent before").wait_for()
    tab.page.get_by_role("button", name="Upload and train").click()
    tab.page.get_by_text("Uploaded. It is being checked").wait_for()
    assert (sent[:2], sorted(sent[2:])) == ([1, 2], [3, 4, 5])
    assert {each["number"] for each in done[0]} == {1, 2, 3, 4, 5}
    tab.complaints.clear()  # the browser notes the connection that hung


def test_a_known_dataset_says_how_it_was_trained_last(world: World, tab: Tab, tmp_path: Path) -> None:
    """What differs from the defaults is named: who only uploads again would not look among all settings."""
    world.upload("digits.json", b'{"trials": 2, "pretrained": "none"}')
    tell_of_a_model(world)
    tab.go("datasets")
    tab.page.get_by_role("list", name="Datasets, each with its newest run").wait_for()
    (tmp_path / "digits.zip").write_bytes(build_colour_zip())
    tab.page.locator("#zip").set_input_files(tmp_path / "digits.zip")
    tab.page.get_by_text("As the last run of this dataset: pretrained none, trials 2.").wait_for()


def test_several_zips_are_all_taken_and_a_drop_beside_the_zone_too(tab: Tab) -> None:
    """Each is a dataset of its own; a loose file says what is wanted; the page is not left."""
    tab.go("datasets")
    tab.page.evaluate(DROP_BESIDE)
    tab.page.get_by_role("heading", name=re.compile("^a ")).wait_for()
    tab.page.get_by_role("heading", name=re.compile("^b ")).wait_for()
    tab.page.get_by_text("c.txt is not a .zip").wait_for()


def test_a_page_whose_app_does_not_answer_goes_on_by_itself(tab: Tab) -> None:
    """A first load without the server is no dead end."""
    tab.page.route("**/models", lambda route: route.abort())
    tab.page.evaluate("location.hash = '#/models'")
    tab.page.get_by_text("The page goes on trying").wait_for()
    tab.page.unroute("**/models")
    tab.page.get_by_text("No models yet").wait_for()
    tab.complaints.clear()  # the browser notes the requests that failed


def test_what_is_deleted_leads_nowhere(world: World, tab: Tab) -> None:
    """A run whose model is gone offers no model; a rule that judged nothing has not passed."""
    run_id = tell_of_a_model(world)
    world.sagemaker.kept["Endpoint"].clear()
    tab.go(f"runs/{run_id}")
    tab.page.get_by_text("Its model has been deleted").wait_for()
    assert tab.page.get_by_role("link", name="Use the model").count() == 0
    tab.page.get_by_text("Debugger: 2 checks passed, 1 to look at, 2 had nothing to judge").wait_for()
    assert tab.page.get_by_text("Low GPU").count() == 0


def test_too_few_images_to_begin_from_scratch_are_told_before_the_start(world: World, tab: Tab, tmp_path: Path) -> None:
    """Also what to do about it; Quick takes more epochs, the fewer images there are. Many images need no word."""
    path = tmp_path / "photos.zip"
    path.write_bytes(build_colour_zip())  # 96 images
    tab.go("datasets")
    tab.page.locator("#zip").set_input_files(path)
    tab.page.get_by_text("Pretrained weights are not in the bucket").wait_for()
    tab.page.get_by_label("Quick").check()
    tab.page.get_by_text("2 trials of 13 epochs").wait_for()
    tell_of_a_model(world)  # it began from scratch
    tab.go("runs")
    tab.go("datasets")
    tab.page.get_by_role("button", name="Cancel").click()
    tab.page.locator("#zip").set_input_files(path)
    told = tab.page.locator(".callout.warn", has_text="It will probably be trained from scratch")
    told.get_by_text("make weights ARCH=resnet18").wait_for()
    tab.keep("dataset-from-scratch")
    assert tab.find_barriers() == []
    tab.page.get_by_text("All settings").click()
    tab.page.get_by_label("pretrained", exact=True).select_option("none")
    told.wait_for(state="detached")
