"""The report: one self-contained file, complete with all its inputs and sound without any of them."""

from __future__ import annotations

import gc
import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.lines import Line2D
from report import writing
from report.charts.data import read_findings
from report.charts.drawing import drawing, to_svg
from report.page import BEGIN, END
from report.sections import tell_choices

from tests.support.report_runs import JOB, RUN, draw_picture, write_json, write_run
from tests.training.tiny import Runner

ANCHORS = ["result", "dataset", "tuning", "curves", "comparison", "evaluation", "debugger", "profiler", "reproduce"]
# Each file, and the parts that are drawn from it.
FILES = {
    "metrics.jsonl": ("result", "dataset", "curves", "reproduce"),
    "evaluation.json": ("result", "dataset", "evaluation"),
    "predictions.json": ("dataset", "evaluation"),
    "comparison.json": ("comparison",),
    "rules.json": ("debugger",),
    "execution_plan.json": ("profiler",),
    "baseline.json": ("result", "evaluation"),
    "profile/timeline.json": ("result", "profiler"),
    "profile/operators.json": ("profiler",),
    "profile/system": ("profiler",),
    "profiler-reports": ("profiler",),
}
NASTY = ["<b>&amp;", "$x^2$ \\frac", "héllo 犬", "a" * 90]


class Outline(HTMLParser):
    """The ids of sections, unclosed tags, and every address that the page names."""

    VOID = frozenset({"meta", "br", "img", "wbr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag == "section":
            self.sections.append(given.get("id") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folders of a run of three classes."""
    return write_run(tmp_path_factory.mktemp("run") / "jobs", classes=3, images=60).parent


@pytest.fixture
def jobs(run: Path, tmp_path: Path) -> Path:
    """Return a copy of them, to be broken."""
    return Path(shutil.copytree(run, tmp_path / "jobs"))


@pytest.fixture
def judged(jobs: Path) -> Path:
    """Return a run with only its evaluation and predictions left, so that little is drawn."""
    for folder in jobs.glob("*/"):
        if folder.name != JOB:
            shutil.rmtree(folder)
    for name in ("profile", "profiler-reports"):
        shutil.rmtree(jobs / JOB / name)
    (jobs / JOB / "metrics.jsonl").unlink()
    (jobs / JOB / "execution_plan.json").unlink()
    return jobs


def write(jobs: Path, **options: Any) -> str:
    """Write the report of the run; return its text."""
    return writing.write_report(jobs / JOB, jobs, **options).read_text(encoding="utf-8")


def draw_parts(jobs: Path, wanted: Sequence[str]) -> dict[str, str]:
    """Draw some parts of the run's report."""
    parts = writing.list_parts(read_findings(jobs / JOB, jobs), draw_picture, {})
    return {anchor: tell() for anchor, _, tell in parts if anchor in wanted}


def complain(text: str) -> None:
    raise AssertionError(text)


def test_a_report_has_every_part_in_order_and_reaches_for_nothing(run: Path) -> None:
    """It has nine sections, all tags closed, and no addresses but anchors and data inside the file."""
    page = write(run, pictures=draw_picture, about={"run_id": RUN, "versions": {"torch": "2.10"}}, warn=complain)
    outline = Outline(page)
    assert outline.sections == ANCHORS
    assert outline.open == []
    assert all(address.startswith(("#", "data:image/")) for address in outline.addresses)
    assert not re.search(r"url\((?!#)|@import|<script", page)
    assert "could not be drawn" not in page
    assert not re.search(r"#0[01]0[12]0\d", page), "a stand-in colour was left in a chart"


def test_a_report_tells_what_the_files_say(run: Path) -> None:
    """Trials, rules, gains and advice are in it, and the images are embedded."""
    page = write(run, pictures=draw_picture)
    for text in (
        "The best of 4 trials", "Overfit", "BatchSize", "1.9 times as fast", "A batch of 64 would",
        "for the same epochs (6)",
        "aten::operator_1", "in train too", "95% confidence", "called", "train.py", "data:image/jpeg;base64,",
    ):  # fmt: skip
        assert text in page
    assert page.count(BEGIN) == page.count(END) == 1


def list_lines(jobs: Path) -> dict[str, str]:
    """Return the report's first three lines by their names."""
    part = re.sub("<!--[^>]*-->", "", draw_parts(jobs, ["result"])["result"])
    assert part.startswith('<dl class="headline">')
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", part.partition("</dl>")[0]))


def test_three_short_lines_come_first(judged: Path) -> None:
    """How good, how sure, what next: a sentence or two each."""
    lines = list_lines(judged)
    test = json.loads((judged / JOB / "evaluation.json").read_text())["test"]
    assert list(lines) == ["How good", "How sure", "What next"]
    assert f"{test['accuracy']:.1%} of {test['images']} test images" in lines["How good"]
    assert "95% confidence" in lines["How sure"]
    assert max(map(len, lines.values())) < 170


@pytest.mark.parametrize(
    ("changes", "line", "told"),
    [
        ({"pretrained": "none"}, "How good", "Trained from scratch"),
        (
            {"pretrained": "none"},
            "What next",
            "Put ImageNet&#x27;s weights into the bucket (make weights ARCH=resnet18)",
        ),
        ({"missed": "1"}, "How good", "No image of 1 was recognised."),
    ],
)
def test_what_matters_most_is_in_the_first_lines(judged: Path, changes: dict[str, str], line: str, told: str) -> None:
    """A training from scratch, with what to do, and classes that are never recognised."""
    path = judged / JOB / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["pretrained"] = changes.get("pretrained", "imagenet")
    for row in evaluation["test"]["classes"]:
        row["recall"] = 0.0 if row["class"] == changes.get("missed") else 1.0
    write_json(path, evaluation)
    assert told in list_lines(judged)[line]


def test_a_threshold_trades_answers_for_right_ones(judged: Path) -> None:
    """At 0.9 the table has the share of images with such an answer, and the share of those that is right."""
    columns = json.loads((judged / JOB / "predictions.json").read_text())["test"]
    rows = zip(columns["probability"], columns["predicted"], columns["labels"], strict=True)
    kept = [said == label for probability, said, label in rows if probability >= 0.9]
    part = draw_parts(judged, ["evaluation"])["evaluation"]
    share, right = f"{len(kept) / len(columns['labels']):.1%}", f"{sum(kept) / len(kept):.1%}"
    assert f"<td>0.9</td><td class=n>{share}</td><td class=n>{right}</td>" in part


def test_files_are_named_as_the_user_has_them(judged: Path) -> None:
    """With their whole path in the zip, wherever the cut put them."""
    path = judged / JOB / "predictions.json"
    predictions = json.loads(path.read_text())
    predictions["test"]["files"] = [f"pets/all/{number}.jpg" for number in range(len(predictions["test"]["files"]))]
    write_json(path, predictions)
    assert re.search(r">pets/<wbr>all/<wbr>\d+\.<wbr>jpg<", draw_parts(judged, ["evaluation"])["evaluation"])


def test_the_worst_mistakes_come_with_a_map(judged: Path) -> None:
    """Each shows what spoke for the answer that was given; one whose map cannot be drawn is shown without."""
    asked = []

    def draw_map(split: str, number: int, label: int) -> Any:
        asked.append((split, label))
        if len(asked) == 2:
            raise RuntimeError("no map")
        return draw_picture(split, number)

    parts = writing.list_parts(read_findings(judged / JOB, judged), draw_picture, {}, draw_map)
    drawn = {anchor: tell() for anchor, _, tell in parts if anchor == "evaluation"}["evaluation"]
    plain = draw_parts(judged, ["evaluation"])["evaluation"]
    assert "what spoke for the answer" in drawn
    assert drawn.count("<img") - plain.count("<img") == len(asked) - 1
    predictions = json.loads((judged / JOB / "predictions.json").read_text())["test"]
    wrong = {(said, label) for said, label in zip(predictions["predicted"], predictions["labels"], strict=True)}
    assert {label for _, label in asked} <= {said for said, label in wrong if said != label}


def test_a_report_shows_what_ships_and_what_it_was_compared_with(jobs: Path) -> None:
    """The candidates with the one that ships marked, both tests against the live model, and what is odd about them."""
    text = draw_parts(jobs, ["comparison"])["comparison"]
    assert re.search(r"class=best><td>a blend of the two, 50% fine-tuned<", text)
    for told in (
        "What ships: a blend", "+3.3 points", "-1.7 points", "4 seen by one", "only the live model knows: &lt;b&gt;",
        "Of 400 images that both datasets hold, 12", "Guessing among 3 classes gives 33.3%",
    ):  # fmt: skip
        assert told in text
    assert "warn" not in text


def test_a_report_warns_of_what_could_not_be_compared_and_of_a_model_that_may_be_guessing(jobs: Path) -> None:
    """Problems stand in their own words; a lower bound below the most frequent class comes first."""
    path = jobs / JOB / "comparison.json"
    content = json.loads(path.read_text())
    content["floor"] |= {"lower": 0.3}
    live = content["live"] | {"problem": "Its artifact is gone.", "tests": []}
    write_json(path, content | {"problems": ["the best trial's model is gone"], "live": live})
    text = draw_parts(jobs, ["comparison"])["comparison"]
    assert text.count("note warn") == 3
    for told in ("not certain that this model is better than guessing", "model is gone", "Its artifact is gone."):
        assert told in text
    write_json(path, content | {"live": None})
    assert "No model was live" in draw_parts(jobs, ["comparison"])["comparison"]


def test_a_report_says_what_was_trained_again(jobs: Path) -> None:
    """A refit with the test before and after it, or why there was none; without one, nothing."""
    path = jobs / JOB / "comparison.json"
    content = json.loads(path.read_text())
    assert "trained again" not in draw_parts(jobs, ["comparison"])["comparison"]
    tests = {
        name: {"images": 120, "accuracy": right / 120, "correct": right}
        for name, right in (("before", 96), ("test", 99))
    }
    write_json(path, content | {"refit": {"done": True, "epochs": 5, "images": 1360, **tests}})
    text = draw_parts(jobs, ["comparison"])["comparison"]
    for told in ("1,360 training and validation images, for 5 epochs", "of 120 test images 99 are right, 96 before"):
        assert told in text
    write_json(path, content | {"refit": {"done": False, "why": "it takes about 90 s"}})
    assert "validation images together: it takes about 90 s." in draw_parts(jobs, ["comparison"])["comparison"]


def test_a_report_says_what_was_not_judged_and_what_to_do(jobs: Path) -> None:
    """`not judged` is a status with its reason; a finding comes first, with its advice."""
    rules = [
        {"name": "DeadRelu", "status": "NotJudged", "details": "no tensors were saved", "advice": None},
        {"name": "Overfit", "status": "IssuesFound", "details": "it rose", "advice": "Add images."},
    ]
    write_json(jobs / JOB / "rules.json", {"format": 1, "rules": rules, "hook": {"available": True}})
    told = draw_parts(jobs, ["debugger"])["debugger"]
    assert "1 of 2 rules found something. 1 could not be judged." in told
    assert told.index("it rose. Add images.") < told.index("no tensors were saved")
    assert "not judged" in told


def count_wrong_labels(jobs: Path) -> int:
    """Return how many labels the first lines say look wrong."""
    found = re.search(r"ook at the (\d+ labels that look wrong|wrong label)", list_lines(jobs)["What next"])
    return 0 if not found else 1 if found[1] == "wrong label" else int(found[1].split()[0])


def test_a_report_shows_labels_and_images_of_no_class(jobs: Path) -> None:
    """Training images whose label looks wrong, counted in the first lines too; how well foreign images are told."""
    doubt = {"number": 3, "label": 0, "likely": 1, "margin": 0.4, "sure": True}
    labels = {"format": 1, "features": "pixels", "images": 480, "sure": True, "train": [doubt]}
    before = count_wrong_labels(jobs)
    write_json(jobs / JOB / "labels.json", labels)
    assert count_wrong_labels(jobs) == before + 1
    cover = {"share": 0.94, "low": 0.91, "high": 0.96, "images": 300}
    each = {"max_logit": {"auroc": 0.91, "fpr_at_95": 0.3}, "neighbours": {"auroc": 0.95, "fpr_at_95": 0.2}}
    measured = {"method": "neighbours", "held_out": 4, "chosen_on": 3, "others": each}
    unknown = {"format": 1, "on": True, "method": "neighbours", "coverage": cover, "measured": measured, "seen": True}
    write_json(jobs / JOB / "unknown.json", unknown)
    told = draw_parts(jobs, ["evaluation"])["evaluation"]
    for text in (
        "480 training images, by features of pixels, out of fold: 1 of them.", "looks like <b>1</b>", "0.950", "20.0%",
        "94.0% are called known (95% confidence: 91.0% to 96.0%)", "so this flatters",
    ):  # fmt: skip
        assert text in told
    write_json(jobs / JOB / "labels.json", labels | {"sure": False})
    assert count_wrong_labels(jobs) == before
    write_json(jobs / JOB / "unknown.json", {"format": 1, "on": False, "reason": "there are 18 validation images"})
    told = draw_parts(jobs, ["evaluation"])["evaluation"]
    assert "These are the most doubtful ones, in order." in told
    assert "calls no image unknown: there are 18 validation images." in told


def test_a_default_run_gains_nothing_over_itself(jobs: Path) -> None:
    """A training with the default hyperparameters is its own baseline, and a run without a baseline says so."""
    path = jobs / JOB / "baseline.json"
    test = json.loads((jobs / JOB / "evaluation.json").read_text())["test"]
    write_json(path, json.loads(path.read_text()) | {"same": True, "test": test})
    told = draw_parts(jobs, ["result", "evaluation"])
    assert "+0.0 points" in told["result"]
    assert "its own baseline" in told["evaluation"]
    path.unlink()
    assert "No baseline was trained" in draw_parts(jobs, ["evaluation"])["evaluation"]


def test_a_class_without_test_images_shows_a_dash(judged: Path) -> None:
    """Nothing is known of it, and it does not stand among the weakest."""
    path = judged / JOB / "evaluation.json"
    content = json.loads(path.read_text())
    content["test"]["classes"][1] |= {"precision": None, "recall": None, "f1": None, "support": 0}
    write_json(path, content)
    told = draw_parts(judged, ["evaluation"])["evaluation"]
    assert re.search(r'<td>1</td>(<td class=n><span class="muted">–</span></td>){4}<td class=n>0</td>', told)
    assert "1 class has no test image" in told


def test_a_report_says_which_rule_ended_the_training(jobs: Path) -> None:
    """It gives the step and the reason from rule-stop.json."""
    write_json(jobs / JOB / "rule-stop.json", {"rule": "DeadRelu", "step": 40, "reason": "step 40: 3 of 4 units"})
    assert "DeadRelu ended the training at step 40: step 40: 3 of 4 units" in draw_parts(jobs, ["debugger"])["debugger"]


def test_a_plan_that_tried_nothing_says_why(jobs: Path) -> None:
    """What could be shortened is shown beside "Profiling found no faster setting"."""
    path = jobs / JOB / "execution_plan.json"
    plan = json.loads(path.read_text())
    side = {"phases": {"data": 2.0, "forward": 60.0, "backward": 38.0}, "images_per_second": 190.4}
    same = {"candidates": [], "before": side, "after": side, "verdict": "Profiling found no faster setting."}
    write_json(path, plan | same)
    assert "No setting was tried: of a step 2.0% goes into waiting" in draw_parts(jobs, ["profiler"])["profiler"]


@pytest.mark.parametrize("name", FILES)
def test_a_report_does_without_any_one_file(jobs: Path, name: str) -> None:
    """A part whose file is missing says so, or leaves out what it would have shown."""
    path = jobs / JOB / name
    whole = draw_parts(jobs, FILES[name])
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    for anchor, text in draw_parts(jobs, FILES[name]).items():
        assert text
        assert text != whole[anchor]


def test_a_report_of_an_empty_folder_is_a_report(tmp_path: Path) -> None:
    """With no files at all, every part says that it has nothing."""
    (tmp_path / JOB).mkdir()
    page = write(tmp_path, warn=complain)
    assert Outline(page).sections == ANCHORS
    assert page.count('class="note"') >= 6


@pytest.mark.parametrize("broken", ['{"classes": 5, "test": [1], "rules": [{}], "phases": {"a": {}}}', "[]", "{"])
def test_a_report_outlives_broken_files(jobs: Path, broken: str) -> None:
    """An unreadable file counts as missing; a senseless one spoils only its own part, with a warning."""
    warnings: list[str] = []
    for name in [name for name in FILES if name.endswith(".json")]:
        (jobs / JOB / name).write_text(broken)
    page = write(jobs, warn=warnings.append)
    assert Outline(page).sections == ANCHORS
    assert page.count(BEGIN) == 1
    assert "The best of 4 trials" in page
    assert len(warnings) == page.count("could not be drawn")


def test_class_names_of_any_kind_stand_as_they_are(judged: Path) -> None:
    """Names that look like markup or formulas are shown as text; long ones are cut in charts."""
    for name in ("evaluation", "predictions"):
        path = judged / JOB / f"{name}.json"
        content = json.loads(path.read_text())
        content["classes"] = NASTY[:3]
        for row, text in zip(content.get("test", {}).get("classes", []), NASTY, strict=False):
            row["class"] = text
        write_json(path, content)
    page = write(judged, warn=complain)
    assert Outline(page).open == []
    assert "<b>&amp;" not in page
    assert "&lt;b&gt;&amp;amp;" in page
    assert "$x^2$" in page


@pytest.mark.parametrize(("classes", "images"), [(2, 12), (133, 836)])
def test_a_report_of_few_and_of_many_classes_is_small(tmp_path: Path, classes: int, images: int) -> None:
    """Each class has its row in the matrix and in the table, and the file stays below its limit."""
    folder = write_run(tmp_path / "jobs", classes=classes, images=images, trials=2)
    path = writing.write_report(folder, folder.parent, pictures=draw_picture, warn=complain)
    page = path.read_text()
    assert path.stat().st_size <= writing.MAX_BYTES
    assert f"Confusion matrix of {classes} classes" in page
    assert f"All {classes} classes" in page


def test_a_report_that_grows_too_large_is_written_without_pictures(judged: Path) -> None:
    """A report without images is better than a file that cannot be mailed."""
    warnings: list[str] = []
    page = write(judged, pictures=draw_picture, limit=1000, warn=warnings.append)
    assert "data:image" not in page
    assert "without images" in warnings[-1]


def test_trials_without_an_evaluation_are_listed_as_such(jobs: Path) -> None:
    """A trial that failed or was cut off is listed too."""
    (jobs / f"{RUN}-001-0123abcd" / "evaluation.json").unlink()
    assert "no evaluation" in draw_parts(jobs, ["tuning"])["tuning"]


def test_a_profiled_training_leaves_its_report(runner: Runner) -> None:
    """The predictions that it is drawn from are kept too; a trial has neither."""
    code, log = runner.run({"profile": "true", "epochs": "1"}, WHIPPET_INSTALL="0")
    assert code == 0, log
    page = (runner.folder / "report.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.sections == ANCHORS
    assert "could not be drawn" not in page
    for text in ("Confusion matrix of 3 classes", "18 test images", "training images (hash)", "torch"):
        assert text in page
    predictions = json.loads((runner.folder / "predictions.json").read_text())
    assert len(predictions["test"]["files"]) == runner.evaluation()["test"]["images"]


class Counted(Line2D):
    """A line that counts how often it is drawn."""

    drawn = 0

    def draw(self, renderer: RendererBase) -> None:
        self.drawn += 1
        super().draw(renderer)


def test_a_chart_is_drawn_once() -> None:
    """A second drawing, only to lay it out again, would take a third of a chart's time."""
    with drawing(300, 200) as (figure, [axes]):
        line = axes.add_line(Counted([0, 1], [0, 1]))
        assert "<path" in to_svg(figure, "a line")
    assert line.drawn == 1


def test_the_report_says_what_auto_came_to() -> None:
    """Each choice with what was taken and why; nothing where a job recorded none."""
    told = tell_choices(
        {
            "imbalance": {"taken": "adjust", "asked": "auto", "ratio": 10.0},
            "horizontal_flip": {"taken": False, "asked": "auto", "why": "left and right are <classes>"},
            "rotation": {"taken": True, "asked": "true", "why": "the recipe says so"},
            "head_penalty": {"taken": 0.01, "folds": 5, "images": 240, "losses": {}},
        }
    )
    for text in (
        "adjust",
        "10.0 times",
        "false",
        "left and right are &lt;classes&gt;",
        "the recipe says so",
        "0.01",
        "240 images",
    ):
        assert text in told
    assert tell_choices({}) == ""


def test_garbage_is_collected_again_after_a_report(tmp_path: Path) -> None:
    """Whether it was written or not; and not while it is."""

    def fail(*_: object) -> None:
        assert not gc.isenabled()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        writing.write_report(tmp_path, tmp_path, about=Refusing(fail))
    assert gc.isenabled()


class Refusing(dict[str, object]):
    """A mapping that calls a function when it is asked for anything."""

    def __init__(self, ask: Callable[..., object]) -> None:
        super().__init__(any=1)
        self.get = ask  # type: ignore[method-assign, assignment]
