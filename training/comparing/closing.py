"""Choose what the final training ships, replace the model that is in place by it, and write comparison.json.

The best epoch is in place before this begins, and stays so until a better model's files are complete: a stop, a time
limit or a failure at any moment leaves a model that can be served. Whatever could not be compared is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from job.artifact import write_json
from job.metrics import log
from learning.engine import Stopped
from learning.preparation import Setup
from learning.shipping import Shipper

from comparing.answers import StopAsked
from comparing.archives import Unusable
from comparing.candidates import Candidate, Rivals, choose, describe_candidate, judge_own, judge_trial
from comparing.floor import describe_floor
from comparing.live import UNFINISHED, compare_live, open_account
from comparing.refitting import Time, describe_refit, try_refit

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """What ships, with its weights in its network, and the same as it was before it was refitted, if it was."""

    shipped: Setup
    before: Setup


def compare(
    rivals: Rivals, shipper: Shipper, stop_asked: StopAsked, has_time: Callable[[float], bool] = lambda _: True
) -> Outcome:
    """Compare the candidates, ship the best, compare it with the live model, and write comparison.json.

    has_time: whether so many seconds are left for a refit.
    """
    try:
        return ship_best(rivals, shipper, Time(stop_asked, has_time))
    except Exception as error:  # noqa: BLE001  a model is in place, which is worth more than what is told of it
        log(f"WARNING: no comparison: {type(error).__name__}: {error}")
        return Outcome(rivals.setup, rivals.setup)


def ship_best(rivals: Rivals, shipper: Shipper, left: Time) -> Outcome:
    rivals.course.learner.optimizer.state.clear()  # two numbers a weight, which nothing needs any more
    candidates, problems = gather(rivals, shipper, left.stop_asked)
    told = [describe_candidate(each, rivals.setup.chosen.objective) for each in candidates]
    winner = ship(candidates, shipper, problems)
    candidates.clear()
    before, again = winner.setup, dict[str, Any]()
    if rivals.setup.chosen.refit:
        winner, again["refit"] = ship_refitted(winner, rivals, shipper, left)
    account = open_account(rivals.setup)
    known = {"format": FORMAT, "candidates": told, "ships": winner.shipped.candidate, "problems": problems, **again}
    known["floor"] = describe_floor(rivals.setup.dataset, winner.judged.test)
    path = rivals.setup.job.places.checkpoints / "comparison.json"
    write_json(path, {**known, "live": account.describe(UNFINISHED) if account else None})
    if account:
        compare_live(account, winner, left.stop_asked)
        write_json(path, {**known, "live": account.describe()})
    return Outcome(winner.setup, before)


def ship_refitted(winner: Candidate, rivals: Rivals, shipper: Shipper, left: Time) -> tuple[Candidate, dict[str, Any]]:
    """Refit the winner and put it in place. Return what ships now, and what is told of it."""
    refitted, why = try_refit(winner, rivals, left)
    if refitted:
        try:
            shipper.exchange(refitted.setup, refitted.judged, refitted.shipped, refitted.epochs)
        except OSError as error:
            refitted, why = None, f"it could not be written ({error})"
    if why:
        log(f"WARNING: what ships was not refitted: {why}")
    return refitted or winner, describe_refit(winner, refitted, why)


def gather(rivals: Rivals, shipper: Shipper, stop_asked: StopAsked) -> tuple[list[Candidate], list[str]]:
    """Judge all candidates. Return them, the one in place first, and what kept others from being judged."""
    candidates: list[Candidate] = []
    problems: list[str] = []
    if shipper.judged is None:
        raise ValueError("no model is in place")
    take(judge_own(rivals, shipper.judged, stop_asked), "this training's other weights", candidates, problems)
    take(judge_trial(rivals.setup, stop_asked), "the best trial's model", candidates, problems)
    return candidates, problems


def take(judged: Iterator[Candidate], what: str, candidates: list[Candidate], problems: list[str]) -> None:
    """Add the candidates as they come; where one breaks, say so among the problems and go on without."""
    try:
        for candidate in judged:
            candidates.append(candidate)
    except Stopped:
        problems.append(f"the training ended before {what} had been judged")
    except Unusable as error:
        problems.append(f"{what} cannot be compared: {error}")
    except Exception as error:  # noqa: BLE001  the others can still be compared
        problems.append(f"{what} could not be judged ({type(error).__name__}: {error})")


def ship(candidates: list[Candidate], shipper: Shipper, problems: list[str]) -> Candidate:
    """Put the best candidate in place, unless it is there. Return what is in place, with its weights in its network."""
    winner, kept = choose(candidates, shipper.setup.chosen.objective), candidates[0]
    for problem in problems:
        log(f"WARNING: {problem}")
    winner.place()
    if winner is kept:
        return kept
    try:
        shipper.exchange(winner.setup, winner.judged, winner.shipped, winner.epochs)
        log(f"ships the {winner.shipped.candidate} of {winner.shipped.job}: the best on validation")
        return winner
    except OSError as error:
        problems.append(f"the {winner.shipped.candidate} is better and could not be written ({error})")
        kept.place()
        return kept
