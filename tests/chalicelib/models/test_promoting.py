"""Whether a model goes live, case by case: plain values in, one action and a sentence out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.models.promoting import Facts, is_sound, judge_promotion
from chalicelib.recipes.values import Promotion
from tests.fakes.comparisons import LIVE, build_comparison, build_floor, build_test

SAFE = Promotion()
EVEN, WORSE = build_test("new", 1000, 20, 20), build_test("new", 300, 8, 32)


def judge(comparison: dict[str, Any] | None, plan: Promotion = SAFE, live: str | None = LIVE, **more: Any) -> Any:
    return judge_promotion(plan, Facts(live, comparison, **more))


@pytest.mark.parametrize(
    ("only_new", "only_live", "action"),
    [
        (30, 12, "deploy"),
        (20, 17, "deploy"),
        (18, 18, "ask"),
        (12, 24, "ask"),
        (8, 32, "decline"),
        (0, 0, "deploy"),
        (0, 200, "decline"),
        (200, 0, "deploy"),
    ],
)
def test_what_the_discordant_images_decide(only_new: int, only_live: int, action: str) -> None:
    """Of 300: surely worse by over a point is declined, likely no worse than that goes live, else a person is asked."""
    told = judge(build_comparison(build_test("new", 300, only_new, only_live)))
    assert told["action"] == action
    assert told["images"] == 300
    assert told["compared_with"] == LIVE
    assert told["difference"] == pytest.approx((only_new - only_live) / 300, abs=1e-6)


def test_the_sentence_says_what_was_compared() -> None:
    """On how many images, both accuracies, the difference with its interval, and what so many images can show."""
    told = judge(build_comparison(build_test("new", 300, 30, 12)))["sentence"]
    assert told.startswith(f"This model replaces that of {LIVE}.")
    assert f"On 300 common images of the new test images it is right on 87.7%, the live model of {LIVE} on" in told
    assert "a difference of +6.0 points (95% interval +1.8 to +10.4)" in told
    assert "on so many images only a difference of 6.1 points or more shows" in told


def test_what_two_tests_have_in_common_is_told_once() -> None:
    """Of a run of the same upload, the live model's own test images are the new ones."""
    told = judge(build_comparison(build_test("new", 21, 5, 0), build_test("live", 21, 5, 0)))["sentence"]
    assert told.count("Only 21 common images are left") == 1
    assert told.count("95% interval") == 1


def test_a_person_is_told_how_to_deploy_it_all_the_same() -> None:
    """The outcome comes first, since a list shows only the beginning."""
    for test, begin in ((WORSE, "as this one is declined"), (build_test("new", 300, 18, 18), "until a person decides")):
        told = judge(build_comparison(test))["sentence"]
        assert told.startswith(
            f"The live model stays{', ' * begin.startswith('as')}{' ' * begin.startswith('u')}{begin}."
        )
        assert "Approving this one deploys it" in told


@pytest.mark.parametrize(("margin", "action"), [(0.0, "decline"), (0.01, "decline"), (0.09, "ask"), (0.1, "deploy")])
def test_the_recipes_margin_counts(margin: float, action: str) -> None:
    """The same counts, which show a loss of 8 points."""
    assert judge(build_comparison(WORSE), Promotion(margin=margin))["action"] == action


def test_failing_either_comparison_declines() -> None:
    """Shuffled labels: by the new labels both models are at chance, by the old ones the new model is far worse."""
    by_new, by_old = build_test("new", 300, 30, 30, 215), build_test("live", 300, 5, 230)
    told = judge(build_comparison(by_new, by_old))
    assert told["action"] == "decline"
    assert told["difference"] == pytest.approx(-0.75)
    assert "the live model's own test images" in told["sentence"]
    assert judge(build_comparison(EVEN, build_test("live", 1000, 15, 15)))["action"] == "deploy"
    assert [test["name"] for test in told["tests"]] == ["new", "live"]


@pytest.mark.parametrize(("images", "action"), [(0, "ask"), (49, "ask"), (50, "deploy")])
def test_few_common_images_decide_nothing(images: int, action: str) -> None:
    """However much better the model is on them; the other set does not make up for it."""
    few = build_test("live", images, images // 2, 0)
    assert judge(build_comparison(few))["action"] == action
    assert judge(build_comparison(EVEN, few))["action"] == action


@pytest.mark.parametrize(("changed", "action"), [(0, "deploy"), (6, "deploy"), (7, "ask"), (300, "ask")])
def test_many_changed_labels_are_for_a_person(changed: int, action: str) -> None:
    """More than 2 % of 300; fewer are told."""
    told = judge(build_comparison(EVEN, labels_changed={"changed": changed, "compared": 300}))
    assert told["action"] == action
    assert (f"{changed} of 300 labels changed" in told["sentence"]) == bool(changed)


def test_lost_classes_are_for_a_person() -> None:
    """They are named, but not all of many; new classes are no reason to ask."""
    lost = {"shared": ["cat"], "lost": [f"dog {number}" for number in range(9)], "new": []}
    told = judge(build_comparison(EVEN, classes=lost))
    assert told["action"] == "ask"
    assert "It does not know dog 0, dog 1, dog 2, dog 3, dog 4 and 4 more classes" in told["sentence"]
    more = {"shared": ["cat", "dog"], "lost": [], "new": ["cow"]}
    assert judge(build_comparison(EVEN, classes=more))["action"] == "deploy"


@pytest.mark.parametrize(
    ("accuracy", "tests", "action"),
    [
        (0.94, [build_test("new", 300, 150, 6)], "ask"),
        (0.55, [build_test("new", 300, 150, 6)], "deploy"),
        (0.94, [build_test("new", 300, 150, 6), EVEN], "deploy"),
    ],
)
def test_labels_that_may_have_changed_are_for_a_person(accuracy: float, tests: list[Any], action: str) -> None:
    """Where the live model's own test is gone, its fall on the new one is the only sign of exchanged labels."""
    tests = [test | {"name": "live"} if number else test for number, test in enumerate(tests)]
    told = judge(build_comparison(*tests, before={"images": 300, "accuracy": accuracy}))
    assert told["action"] == action
    assert ("labels or images may have changed" in told["sentence"]) == (action == "ask")


UNSURE = {
    "no file": None,
    "compared with another": build_comparison(EVEN, run="whippet-dev-dogs-11111111"),
    "compared with none": build_comparison(run=None),
    "nothing could be compared": build_comparison(problem="The artifact of the live model is gone."),
}


@pytest.mark.parametrize("case", UNSURE)
def test_what_was_not_compared_with_the_live_model_is_for_a_person(case: str) -> None:
    """An older training, a job that was killed, a live model that changed or lost its files meanwhile."""
    told = judge(UNSURE[case])
    assert told["action"] == "ask"
    assert LIVE in told["sentence"]
    assert case != "nothing could be compared" or "artifact of the live model is gone" in told["sentence"]


def test_a_live_model_that_was_taken_down_meanwhile_is_told() -> None:
    """The model goes live as any first one."""
    told = judge(build_comparison(WORSE), live=None)
    assert told["action"] == "deploy"
    assert (
        f"The model of {LIVE}, which was live when the final training began, is not live any more." in told["sentence"]
    )
    assert told["compared_with"] is None


# The floor


@pytest.mark.parametrize(
    ("correct", "images", "classes", "most_frequent", "action"),
    [
        (338, 360, 10, 0.103, "deploy"),  # handwritten digits
        (36, 360, 10, 0.103, "decline"),  # chance
        (46, 360, 10, 0.103, "decline"),  # above chance, but not surely
        (285, 300, 2, 0.95, "decline"),  # always the most frequent class
        (16, 20, 2, 0.5, "deploy"),
        (12, 20, 2, 0.5, "decline"),
        (2, 2, 2, 0.5, "deploy"),  # so few cannot show it
        (1, 2, 2, 0.5, "decline"),  # but they can show the contrary
        (0, 0, 2, 0.0, "deploy"),
    ],
)
def test_every_model_beats_chance_and_the_most_frequent_class(
    correct: int, images: int, classes: int, most_frequent: float, action: str
) -> None:
    """By its lower bound, the first model of a dataset too; else that is told in a sentence and declined."""
    floor = build_floor(correct, images, classes, most_frequent)
    told = judge(build_comparison(run=None, floor=floor), live=None)
    assert told["action"] == action
    assert (told["floor"]["beaten"] is False) == (action == "decline")
    assert told["floor"]["beaten"] or told["floor"]["sentence"] in told["sentence"]


def test_the_floor_holds_against_a_live_model_too() -> None:
    """A model that replaces one no better than chance is not for that reason good."""
    told = judge(build_comparison(EVEN, floor=build_floor(30)))
    assert told["action"] == "decline"
    assert told["floor"]["sentence"].startswith("The model is not shown to be better than the most frequent class")


@pytest.mark.parametrize(("right", "action"), [(45, "deploy"), (25, "decline")])
def test_without_a_comparison_the_first_goes_by_its_evaluation(right: int, action: str) -> None:
    """Its confusion matrix gives the same counts; a job that left none is not judged, and that is told."""
    evaluation = {"test": {"confusion": [[right, 50 - right], [50 - right, right]]}}
    assert judge(None, live=None, evaluation=evaluation)["action"] == action
    bare = judge(None, live=None, evaluation={"test": {"accuracy": 0.1}})
    assert bare["action"] == "deploy"
    assert "Whether it beats chance is not known" in bare["sentence"]


@pytest.mark.parametrize(("of_baseline", "told"), [(0.93, False), (0.94, True), (0.99, True)])
def test_a_model_that_is_not_better_than_the_baseline_goes_live_and_says_so(of_baseline: float, told: bool) -> None:
    """282 of 300 are 94 %."""
    found = judge(build_comparison(run=None), live=None, baseline={"test": {"accuracy": of_baseline}})
    assert found["action"] == "deploy"
    assert ("not better than the baseline" in found["sentence"]) == told


# What the recipe says


@pytest.mark.parametrize(
    ("when", "actions"),
    [
        ("safe", "deploy ask decline deploy decline ask"),
        ("always", "deploy " * 6),
        ("ask", "ask ask decline ask decline ask"),
    ],
)
def test_the_recipe_says_when_a_model_goes_live(when: Any, actions: str) -> None:
    """`always` tells what it passes over; `ask` lets nothing through without a person, not even the first."""
    plan = Promotion(when=when)
    cases = [
        judge(build_comparison(EVEN), plan),
        judge(build_comparison(build_test("new", 300, 18, 18)), plan),
        judge(build_comparison(WORSE), plan),
        judge(build_comparison(run=None), plan, live=None),
        judge(build_comparison(run=None, floor=build_floor(30)), plan, live=None),
        judge(None, plan),
    ]
    assert [case["action"] for case in cases] == actions.split()
    if when == "always":
        assert "promotion.when is 'always'" in cases[2]["sentence"]
        assert "It is worse by more than 1 point" in cases[2]["sentence"]


# A file of another version


def list_without_one(document: Any) -> Iterator[Any]:
    """Yield a document without one of its members, or with one that is no number or text, for each of them."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield {other: each for other, each in document.items() if other != name}
            yield document | {name: [None]}
            for part in list_without_one(value):
                yield document | {name: part}
    elif isinstance(document, list):
        for place, value in enumerate(document):
            for part in list_without_one(value):
                yield [*document[:place], part, *document[place + 1 :]]


def test_a_file_that_lacks_something_compares_nothing_and_stops_no_run() -> None:
    """Whatever member is lacking or of another kind, a decision is made: all that is read of a file was checked."""
    sound = build_comparison(EVEN) | {"candidates": [{"candidate": "final", "valid": {"objective": 0.9}}]}
    assert is_sound(sound)
    broken = [None, [], "text", 1, {}, *list_without_one(sound)]
    assert any(is_sound(each) for each in broken)  # where a member is lacking that is not read
    for each in broken:
        told = judge(each if is_sound(each) else None)
        assert told["action"] in ("ask", "deploy")
        assert is_sound(each) or told["action"] == "ask"
