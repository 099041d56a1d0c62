"""The page in a real browser, over accounts with different histories."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Request, Route

from chalicelib.pipeline.progress import describe_run
from chalicelib.pipeline.sweep import sweep
from tests.fakes.world import World
from tests.support.local_cloud import wait_until
from tests.support.pictures import draw_test_picture
from tests.web.browser import NARROW, WIDE, Tab
from tests.web.conftest import OpenTab
from tests.web.stories import (
    ZIP,
    advance,
    fill_with_runs,
    tell_of_a_failure,
    tell_of_a_model,
    tell_of_a_tuning,
    tell_of_an_undecided_model,
    write_evaluation,
    write_metrics,
)


def test_a_wrong_token_opens_nothing(address: str, open_any: OpenTab) -> None:
    """It is refused in words; the right one signs in, is kept in the browser, and is gone after signing out."""
    tab = open_any(address)
    tab.page.goto(address)
    tab.page.get_by_label("Token").fill("wrong")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("unknown or withdrawn").wait_for()
    tab.complaints.clear()  # the browser notes the 401
    tab.sign_in("ann-token")
    assert "ann-token" not in tab.page.url
    kept = tab.page.evaluate("[sessionStorage.length, document.cookie, Object.values(localStorage)]")
    assert kept == [0, "", ["ann-token"]]
    tab.page.get_by_role("button", name="Sign out").click()
    tab.page.get_by_label("Token").wait_for()
    assert tab.page.evaluate("localStorage.length") == 0


def test_a_withdrawn_token_leads_to_the_door(world: World, address: str, open_any: OpenTab) -> None:
    """Whatever the user was looking at, the page asks for the token again and says why."""
    tab = open_any(address)
    tab.sign_in("ann-token")
    world.secrets.text = '{"tokens": {"bob": "bob-token"}}'
    world.clock.sleep(61)
    tab.page.evaluate(
        "location.hash = '#/models'"
    )  # not a link: the page, which polls by itself, may have signed out already
    tab.page.get_by_text("unknown or withdrawn").wait_for()
    tab.complaints.clear()


def test_an_empty_system_says_what_to_do(address: str, open_any: OpenTab) -> None:
    """Each view is complete with nothing to show, and leads to the place where a dataset is dropped."""
    tab = open_any(address)
    tab.page.goto(address)
    tab.page.get_by_label("Token").wait_for()
    tab.keep("sign-in")
    tab.sign_in("ann-token")
    for place, text in (("runs", "No runs yet"), ("models", "No models yet"), ("datasets", "Drop a folder or a zip")):
        tab.go(place)
        tab.page.get_by_text(text).wait_for()
        tab.keep(f"empty-{place}")
        assert tab.find_barriers() == []
    tab.go("runs")
    tab.page.get_by_role("link", name="Upload a dataset").click()
    tab.page.get_by_role("heading", name="Datasets", level=1).wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_whole_run_can_be_read(world: World, address: str, open_any: OpenTab, dark: bool) -> None:
    """Quality, classes, confusion, debugger, profiler, curves, trials, dataset, recipe, all accessible."""
    run_id = tell_of_a_model(world)
    tab = open_any(address, dark=dark)
    tab.sign_in("ann-token")
    tab.go(f"runs/{run_id}")
    for title in (
        "How good it is",
        "Class by class",
        "Skipped images",
        "Mistakes",
        "Labels that look wrong",
        "Confused pairs",
        "Health of the training",
        "Curves",
        "Tuning",
        "Dataset",
    ):
        tab.page.get_by_role("heading", name=title, exact=True).wait_for()
    assert tab.page.get_by_text("96.4%").first.is_visible()
    assert tab.page.get_by_text("87.1% baseline").is_visible()
    report = tab.page.get_by_role("link", name="Open the report").get_attribute("href") or ""
    assert f"/runs/{run_id}/report.html" in report
    tab.keep("run-dark" if dark else "run")
    assert tab.find_barriers() == []
    tab.resize(NARROW)
    assert tab.find_barriers() == []


def test_a_run_of_many_classes_can_be_read(world: World, tab: Tab) -> None:
    """With 133 classes the matrix is a picture that keys can read, the worst pairs are words, the table is folded."""
    run_id = tell_of_a_model(world)
    write_evaluation(world, run_id, 133)
    tab.go(f"runs/{run_id}")
    tab.page.locator("canvas.matrix").wait_for()
    assert tab.page.locator(".pairs li").count() == 8
    tab.page.get_by_text("All 133 classes", exact=True).click()
    rows = tab.page.get_by_role("table", name="Quality by class").get_by_role("row")
    assert rows.count() == 134
    assert "number 3" in rows.nth(1).inner_text()  # the weakest is first
    tab.page.locator("canvas.matrix").focus()
    tab.page.keyboard.press("Space")
    tab.page.locator(".matrix-place").get_by_text("classified as").wait_for()
    tab.keep("run-133-classes")
    assert tab.find_barriers() == []


def test_curves_change_with_the_measure(world: World, tab: Tab) -> None:
    """Training is beside validation, in accuracy first; keys choose the measure; a table has the numbers."""
    tab.go(f"runs/{tell_of_a_model(world)}")
    curves = tab.page.locator("section", has=tab.page.get_by_role("heading", name="Curves", exact=True))
    assert curves.locator("svg[aria-label^='Accuracy']").count() == 2
    assert curves.locator("polyline").count() == 14
    assert "best so far 98.0%" in curves.locator("svg").first.inner_html()
    curves.get_by_label("Measure").focus()
    tab.page.keyboard.press("ArrowDown")
    curves.locator("svg[aria-label^='Loss']").first.wait_for()
    curves.get_by_text("As a table").click()
    assert curves.get_by_role("row").count() == 15


def test_a_run_is_followed_and_stopped(world: World, tab: Tab) -> None:
    """While active it shows stage, trials and curve in the list; changes appear by themselves; it can be stopped."""
    run_id = tell_of_a_tuning(world)
    tab.go("runs")
    head = tab.page.get_by_role("article")
    head.locator("[aria-current=step]", has_text="tuning").wait_for()
    head.get_by_text(re.compile(r"Trial 2 of 6, epoch \d of 3")).wait_for()
    head.get_by_text(re.compile("about .* left")).wait_for()
    assert head.locator("svg.spark").count() == 1
    tab.keep("runs-live")
    assert tab.find_barriers() == []
    head.get_by_role("button", name="Stop this run").click()
    tab.page.keyboard.press("Escape")
    assert world.list_keys(f"runs/{run_id}/stop.json") == []
    head.get_by_role("button", name="Stop this run").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Stop this run").click()
    tab.page.get_by_role("dialog").wait_for(state="detached")
    world_sees_stop(world, tab, run_id)


def test_the_end_of_the_final_training_takes_its_time_and_says_why(world: World, tab: Tab) -> None:
    """After its epochs it trains a baseline, for as many: the time left counts that."""
    world.trial_scores = [0.7]
    world.upload("flowers.zip", ZIP)
    while not world.sagemaker.kept["TrainingJob"]:
        advance(world)
    run_id = str(world.services().runs.list_all(1)[0][0]["run_id"])
    (job,) = world.sagemaker.kept["TrainingJob"].values()
    job |= {"TrainingJobStatus": "InProgress", "TrainingStartTime": datetime.now(UTC), "TrainingEndTime": None}
    write_metrics(world, run_id, job["TrainingJobName"], epochs=8, ends_at=0.9, has_ended=False)
    tab.go(f"runs/{run_id}")
    tab.page.get_by_text(
        "Final training, epoch 8 of 8, about 35 s left."
    ).wait_for()  # 8 epochs of 2.5 s, and the report
    write_metrics(world, run_id, job["TrainingJobName"], epochs=8, ends_at=0.9)
    tab.page.get_by_text(re.compile("Final training done, comparing it with a baseline, about .* left")).wait_for()


def test_a_model_that_was_kept_back_says_why_and_is_approved(world: World, tab: Tab) -> None:
    """The reason is on the page, and a button deploys the model after a question; the page follows the deployment."""
    run_id = tell_of_an_undecided_model(world)
    tab.go(f"runs/{run_id}")
    tab.page.get_by_text("It is for you to decide whether this model goes live").wait_for()
    assert "On the new test images it may be worse by more than 1 point." in tab.page.locator("main").inner_text()
    tab.keep("run-undecided")
    assert tab.find_barriers() == []
    tab.page.get_by_role("button", name="Approve and deploy").click()
    question = tab.page.get_by_role("dialog")
    right = question.get_by_role("row", name="Right on the 300 new test images")
    assert right.inner_text().split("\t")[1:] == ["85.3%", "85.3%"]
    assert "takes the place of the live model" in question.inner_text()
    assert tab.find_barriers() == []
    tab.page.keyboard.press("Escape")
    assert world.list_keys(f"runs/{run_id}/approval.json") == []
    tab.page.get_by_role("button", name="Approve and deploy").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Approve and deploy").click()
    tab.page.locator("[aria-current=step]", has_text="deploying").wait_for()
    tab.page.get_by_text("Approved. Its deployment begins within two minutes.").wait_for()
    advance(world, 3)
    tab.page.get_by_text("A person approved this model").wait_for()


def test_a_question_does_not_follow_to_another_page(world: World, tab: Tab) -> None:
    """Who leaves while the comparison is still on its way is not asked about that model any more."""
    run_id = tell_of_an_undecided_model(world)
    tab.go(f"runs/{run_id}")
    held: list[Route] = []
    button = tab.page.get_by_role("button", name="Approve and deploy")
    button.wait_for()
    tab.page.route(f"**/runs/{run_id}/jobs", lambda route: held.append(route))
    with tab.page.expect_request(f"**/runs/{run_id}/jobs"):
        button.click()
    tab.go("models")
    with tab.page.expect_response(f"**/runs/{run_id}/jobs"):
        held[0].continue_()
    tab.page.wait_for_timeout(200)
    assert tab.page.get_by_role("dialog").count() == 0


def test_looks_become_rare_while_nothing_happens(world: World, address: str, open_any: OpenTab) -> None:
    """Polling slows from once a second to three times a minute; a change makes it fast again."""
    tell_of_a_tuning(world)
    tab = open_any(address)
    tab.page.clock.install()
    tab.sign_in("ann-token")
    tab.page.get_by_role("article").wait_for()

    asked: list[str] = []
    open_requests: set[Request] = set()

    def note(request: Request) -> None:
        open_requests.add(request)
        asked.extend([request.url] if "/runs?" in request.url else [])

    tab.page.on("request", note)
    for ending in ("requestfinished", "requestfailed"):
        tab.page.on(ending, lambda request: open_requests.discard(request))

    def count_looks(seconds: int) -> int:
        """Let seconds pass on the page's clock, each after all that was asked before is answered."""
        before = len(asked)
        for _ in range(seconds):
            tab.page.clock.run_for(1000)
            tab.page.wait_for_timeout(1)
            while open_requests:
                tab.page.wait_for_timeout(5)
        return len(asked) - before

    assert 3 <= count_looks(10) <= 10
    count_looks(50)
    assert 1 <= count_looks(45) <= 4
    advance(world, 1)
    assert count_looks(40) >= 5


def test_a_run_that_waits_says_for_what(world: World, tab: Tab) -> None:
    """It counts as active, with the reason in place of a result, and shows what it may cost."""
    world.sagemaker.limits = {"HyperParameterTuningJob"}
    world.upload("flowers.zip", ZIP)
    sweep(world.services())
    run_id = world.services().runs.list_all(1)[0][0]["run_id"]
    tab.go(f"runs/{run_id}")
    tab.page.get_by_text("This run waits its turn").wait_for()
    tab.page.get_by_text("The account-level service limit").first.wait_for()
    tab.page.get_by_text("expected", exact=False).first.wait_for()
    tab.keep("run-waiting")
    assert tab.find_barriers() == []


def world_sees_stop(world: World, tab: Tab, run_id: str) -> None:
    """The jobs end as they were told to; the list shows it without a reload."""
    tab.page.get_by_text("Its jobs are being told to end").wait_for()
    wait_until(lambda: world.list_keys(f"runs/{run_id}/stop.json") or None, within=10, what="the stop")
    advance(world, 3)
    tab.page.get_by_role("list", name="All runs").get_by_text("stopped", exact=True).wait_for()


def test_a_failed_run_says_why_and_can_be_tried_again(world: World, tab: Tab) -> None:
    """The most common reason, the end of the failed job's log, and the next attempt under a button."""
    run_id = tell_of_a_failure(world)
    world.logs.lines = {f"{run_id}-001-0123abcd": [f"line {number}" for number in range(80)]}
    tab.go(f"runs/{run_id}")
    tab.page.get_by_text("This run failed").wait_for()
    assert "1 of 2 trials: trial 1 broke" in tab.page.locator(".callout.bad").inner_text()
    tab.page.get_by_text("line 79").wait_for()
    tab.keep("run-failed")
    assert tab.find_barriers() == []
    tab.page.get_by_role("button", name="Try again").click()
    tab.page.get_by_text("attempt 2").wait_for()


@pytest.mark.parametrize("world", [True, False], indirect=True, ids=["billed", "free"])
def test_a_run_shows_what_it_may_cost_and_what_it_has_cost(world: World, tab: Tab) -> None:
    """Where somebody is charged: spent, expected and at most. Where nobody is, each price is AWS's and says so."""
    run_id = tell_of_a_tuning(world)
    told = describe_run(run_id, world.services())["cost"]
    most = f", ${told['worst_usd']:.2f} at most" if world.settings.billed else ""
    tab.go(f"runs/{run_id}")
    expected = told["refined_usd"] or told["expected_usd"]
    tab.page.get_by_text(f"so far, of ${expected:.2f} expected{most}", exact=False).first.wait_for()
    assert ("at most" in tab.page.locator(".run-head").inner_text()) == world.settings.billed
    over = tell_of_a_model(world, "tulips")
    told = describe_run(over, world.services())["cost"]
    tab.go(f"runs/{over}")
    tab.page.get_by_text(f"(expected ${told['expected_usd']:.2f})").wait_for()
    head = tab.page.locator(".run-head").inner_text()
    assert ("free here; on AWS" in head) == (not world.settings.billed)
    tab.go("runs")
    row = tab.page.locator(".runs li", has_text="tulips")
    row.wait_for()
    assert ("free (" in row.inner_text()) == (not world.settings.billed)


def test_a_rejected_dataset_tells_every_problem(world: World, tab: Tab) -> None:
    """What pre-flight found stands on the run's page."""
    world.upload("broken.zip", b"this is no archive")
    advance(world)
    tab.go("runs")
    tab.page.get_by_role("link", name="broken").click()
    tab.page.get_by_text("Not accepted. Fix this").wait_for()
    told = tab.page.locator(".callout.bad").inner_text()
    assert told.count("The file is not a zip") == 1
    tab.keep("run-rejected")


def test_a_run_rejected_for_its_budget_says_so(world: World, tab: Tab) -> None:
    """When nothing is wrong with the dataset, the reason is not among the findings of pre-flight."""
    world.upload("flowers.json", json.dumps({"budget_usd": 0.01}).encode())
    world.upload("flowers.zip", ZIP)
    advance(world)
    tab.go("runs")
    tab.page.get_by_role("link", name="flowers").click()
    tab.page.get_by_text("This run was rejected").wait_for()
    assert "its budget is $0.01" in tab.page.locator(".callout.bad").inner_text()


def test_a_thousand_runs(world: World, tab: Tab) -> None:
    """The newest fifty are shown at once, the others on demand, each once and in order."""
    fill_with_runs(world, 1000)
    tab.go("runs")
    rows = tab.page.get_by_role("list", name="All runs").get_by_role("listitem")
    rows.nth(49).wait_for()
    assert rows.count() == 50
    tab.keep("runs-many")
    for shown in (250, 450, 650, 850, 1000):
        tab.page.get_by_role("button", name="Show older runs").click()
        rows.nth(shown - 1).wait_for()
    tab.page.get_by_role("button", name="Show older runs").wait_for(state="hidden")
    times = rows.locator("time").evaluate_all("all => all.map(each => each.dateTime)")
    assert len(times) == 1000
    assert times == sorted(times, reverse=True)


def test_models_are_shown_and_deleted_after_a_question(world: World, tab: Tab) -> None:
    """Accuracy and the run behind it; Cancel keeps the model, the red button deletes it."""
    run_id = tell_of_a_model(world)
    tab.go("models")
    tab.page.get_by_role("link", name=run_id).wait_for()
    tab.page.get_by_text("accuracy").wait_for()
    tab.keep("models")
    assert tab.find_barriers() == []
    tab.page.get_by_role("link", name="digits", exact=True).click()
    tab.page.get_by_role("button", name="Delete this model").click()
    tab.page.get_by_role("button", name="Cancel").click()
    assert world.sagemaker.kept["Endpoint"]
    tab.page.get_by_role("button", name="Delete this model").click()
    assert tab.find_barriers() == []
    tab.page.get_by_role("button", name="Delete the model").click()
    tab.page.get_by_text("No models yet").wait_for()
    assert world.sagemaker.kept["Endpoint"] == {}


def test_a_dataset_is_deleted_after_a_question(world: World, tab: Tab) -> None:
    """With its runs and its model; Cancel keeps everything."""
    tell_of_a_model(world)
    tab.go("datasets")
    button = tab.page.get_by_role("button", name="Delete the dataset digits")
    button.click()
    assert tab.find_barriers() == []
    tab.page.get_by_role("button", name="Cancel").click()
    assert world.sagemaker.kept["Endpoint"]
    button.click()
    tab.page.get_by_role("button", name="Delete it all").click()
    tab.page.get_by_text("digits is deleted", exact=True).wait_for()
    assert world.sagemaker.kept["Endpoint"] == {}
    assert world.list_keys("runs/") == []
    button.wait_for(state="detached", timeout=2_000)  # the list does not wait for its next look
    assert tab.find_barriers() == []


def test_a_picture_without_an_answer_says_why_in_words(world: World, tab: Tab) -> None:
    """For each kind of refusal: in the words of this page, not of the API's; what may pass can be tried again."""
    tell_of_a_model(world)
    tab.go("models/digits")
    tab.drop(".drop", "notes.txt", "text/plain", b"no picture")
    tab.page.get_by_text("This is not an image. Send a JPEG, PNG or WebP.").wait_for()
    tab.drop(".drop", "scan.tif", "image/tiff", b"II" + b"x" * 4_500_000)
    tab.page.get_by_text("this browser cannot make it smaller").wait_for()
    assert tab.page.get_by_role("button", name="Try again").count() == 0
    tab.page.route("**/predict?**", lambda route: route.fulfill(status=429, json={"message": "Too Many Requests"}))
    tab.drop(".drop", "green.png", "image/png", draw_test_picture("green"))
    tab.page.get_by_text("That was too much at once").wait_for()
    tab.keep("model-refusals")
    assert tab.find_barriers() == []
    tab.page.unroute("**/predict?**")
    tab.page.get_by_role("button", name="Try again").click()
    tab.page.get_by_role("list", name="Classes, the likeliest first").wait_for()
    world.sagemaker.kept["Endpoint"].clear()
    tab.drop(".drop", "red.png", "image/png", draw_test_picture("red"))
    gone = tab.page.get_by_text("There is no model 'digits'.")
    gone.wait_for()
    assert gone.inner_text() == "There is no model 'digits'."
    tab.complaints.clear()  # the browser notes each refusal


def test_a_link_that_has_expired_is_signed_again(world: World, tab: Tab) -> None:
    """When it is pointed at, so that it can be copied; and when it is followed, also after a first try that failed."""
    run_id = tell_of_a_model(world)
    tab.page.clock.install()
    tab.go(f"runs/{run_id}")
    link = tab.page.get_by_role("link", name="Open the report")
    link.wait_for()
    tab.page.clock.run_for(10_000)  # the run has ended: the page looks no more
    described = describe_run(run_id, world.services())
    signed: list[str] = []

    def sign(route: Route) -> None:
        signed.append(f"https://pictures.s3.example/report?signed={len(signed)}")
        route.fulfill(json=described | {"links": described["links"] | {"report": signed[-1]}})

    tab.page.route(f"**/runs/{run_id}", sign)
    tab.page.context.route("https://pictures.s3.example/**", lambda route: route.fulfill(body="the report"))
    link.hover()
    assert signed == []
    tab.page.mouse.move(0, 0)
    tab.page.clock.fast_forward("50:00")
    link.hover()
    tab.page.wait_for_function("document.querySelector('.run-head a[data-key=report]').href.endsWith('signed=0')")
    tab.page.clock.fast_forward("50:00")
    tab.page.route(f"**/runs/{run_id}", lambda route: route.abort())
    link.click()
    tab.page.get_by_text("The app does not answer").wait_for()
    tab.page.route(f"**/runs/{run_id}", sign)
    with tab.page.expect_popup() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert opened.value.url == signed[1]
    opened.value.close()
    tab.complaints.clear()  # the browser notes the request that failed


def test_names_are_text_and_nothing_else(world: World, tab: Tab) -> None:
    """A dataset named like markup is shown by that name."""
    name = "<img src=x onerror=alert(1)> & 犬"
    world.upload(f"{name}.zip", b"this is no archive")
    advance(world)
    tab.go("runs")
    tab.page.get_by_role("link", name=name).click()
    tab.page.get_by_role("heading", name=name).wait_for()
    assert tab.page.locator("main img").count() == 0


def test_everything_is_reached_by_keyboard(world: World, tab: Tab) -> None:
    """From the first Tab on: past the skip link, through the menu, into a view whose heading then has the focus."""
    tell_of_a_model(world)
    tab.page.reload()
    tab.page.get_by_role("heading", name="Runs", level=1).wait_for()
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(3):
        tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Models"
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Models", level=1).wait_for()
    tab.page.wait_for_function("document.activeElement.tagName == 'H1'")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="digits", level=1).wait_for()
    tab.page.wait_for_function("document.activeElement.tagName == 'H1'")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.id") == "picture"


def test_unknown_places(address: str, open_any: OpenTab) -> None:
    """An unknown run shows the route's message; an address without a view leads to the runs."""
    tab = open_any(address, width=WIDE)
    tab.sign_in("ann-token")
    tab.go("runs/nothing")
    told = tab.page.get_by_text("There is no run")
    told.wait_for()
    assert told.inner_text() == "There is no run 'nothing'."  # the API's route that lists them is no help here
    tab.complaints.clear()  # the browser notes the 404
    tab.page.goto(f"{address}#/nowhere")
    tab.page.get_by_role("heading", name="Runs", level=1).wait_for()
