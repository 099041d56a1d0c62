"""One history: drawn from a seed, lived through, brought to rest, and judged."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from functools import partial

from chalicelib.settings import Settings
from tests.fakes.world import SETTINGS
from tests.histories.chaos.account import Account, Alter
from tests.histories.chaos.faults import Faults, Focus, Outage
from tests.histories.chaos.functions import Functions
from tests.histories.chaos.invariants import find_broken
from tests.histories.chaos.people import FREE, People

# Chances of a fault: (of changes on SageMaker, of writes and messages, of reads).
TEMPERS = ((0.0, 0.0, 0.0), (0.08, 0.01, 0.003), (0.2, 0.03, 0.01), (0.4, 0.08, 0.02))
PACES = (1.0, 1.0, 10.0, 60.0)  # how slow calls are: the slower, the more functions run at once
GAPS = (120.0, 120.0, 120.0, 600.0, 3600.0)  # seconds between two sweeps: some are lost
OUTAGES = (
    ("publish", "InternalError"),
    ("publish", "AuthorizationError"),
    ("put_events", "InternalFailure"),
    ("create_endpoint", "InternalFailure"),
    ("create_training_job", "AccessDeniedException"),
    ("create", "ThrottlingException"),
    ("update_endpoint", "InternalFailure"),
    ("describe", "InternalFailure"),
    ("put_object", "SlowDown"),
)
FOCUSES = (
    Focus("put_object", "ledger/"),
    Focus("get_object", "ledger/", 0.2),
    Focus("put_object", "lease.json"),
    Focus("put_object", "active/"),
    Focus("put_object", "run.json"),
    Focus("put_object", "result.json"),
    Focus("put_object", "stop.json"),
    Focus("put_object", "settlement.json"),
    Focus("put_object", "deployment"),
    Focus("put_object", "decision.json"),
    Focus("put_object", "approval.json"),
    Focus("put_object", "result-2.json"),
    Focus("put_object", "/notices/"),
    Focus("copy_object"),
    Focus("delete_object"),
    Focus("list_object_versions"),
    Focus("create_"),
    Focus("create_endpoint"),
    Focus("create_training_job"),
    Focus("create_hyper"),
    Focus("update_endpoint"),
    Focus("stop_"),
    Focus("delete_"),
    Focus("describe_endpoint", "", 0.2),
    Focus("describe_hyper", "", 0.2),
    Focus("publish"),
    Focus("put_events"),
)
CHEAP = ("ml.m5.xlarge",)  # a run may cost some 3 dollars on them
LIMITED = ("HyperParameterTuningJob", "TrainingJob", "Endpoint")
INTERFERENCES = 10
HOUR, DAY = 3600.0, 86_400.0
REST = (*[400.0] * 12, *[HOUR] * 12, *[DAY] * 75)  # seconds between the sweeps that bring a history to rest


@dataclass(frozen=True)
class Verdict:
    """How a history ended: the rules that it broke, its trace, and how many lines that has."""

    seed: int
    broken: tuple[str, ...]
    trace: tuple[str, ...]
    length: int


class History:
    """A history as its seed tells it. `focus` may be given to meet faults in one place."""

    def __init__(self, seed: int, alter: Alter = lambda services: services, focus: Focus | None = None) -> None:
        self.seed = seed
        self.dice = dice = random.Random(seed)
        self.seconds = dice.choice((HOUR, 3 * HOUR, 8 * HOUR, 2 * DAY))
        self.cap = dice.choice((0.0, 0.0, 200.0, 5.0, 5.0, 11.0))
        self.is_calm = dice.random() < 0.1
        self.is_crowded = dice.random() < 0.4
        self.faults = self._draw_faults()
        self.faults.focus = focus or self.faults.focus
        self.account = account = Account(self.faults, self._draw_settings(), alter)
        chances = (0.0, 0.0, 0.0) if self.is_calm else (dice.choice((0, 0.1, 0.5)), dice.choice((0, 0.2)), 0.1)
        self.functions = Functions(account, random.Random(dice.random()), *chances)
        account.sagemaker.emit = self.functions.emit
        account.sagemaker.spread = dice.choice((0.0, 0.05)) if self.is_crowded else 1.0
        account.interfere = self._interfere
        self.interfered = 0
        self.people = People(account, self.functions, random.Random(dice.random()))

    def _draw_faults(self) -> Faults:
        dice = self.dice
        temper = TEMPERS[0] if self.is_calm else dice.choice(TEMPERS)
        focus = None if self.is_calm or dice.random() < 0.4 else dice.choice(FOCUSES)
        outages = []
        if not self.is_calm and dice.random() < 0.3:
            operation, code = dice.choice(OUTAGES)
            begin = dice.uniform(0, self.seconds)
            outages = [Outage(operation, begin, begin + dice.choice((300.0, HOUR, 12 * HOUR)), code)]
        return Faults(random.Random(dice.random()), *temper, pace=dice.choice(PACES), focus=focus, outages=outages)

    def _draw_settings(self) -> Settings:
        """Return a stage without a cap, with an ample one, or with one that a run or two exhaust."""
        settings = replace(SETTINGS, monthly_cap_usd=self.cap, use_spot=self.dice.random() < 0.5)
        if 0 < self.cap < 100:
            settings = replace(settings, trial_instance_types=CHEAP, training_instance_types=CHEAP)
        return settings

    def live(self, *, traced: bool = False) -> Verdict:
        """Live through the history. Returns how it ended, with the trace if it broke a rule."""
        self._schedule_people()
        self._schedule_sweeps(0.0)
        self._schedule_quotas()
        self.account.scheduler.run(self.seconds)
        self._rest()
        broken = tuple(find_broken(self))
        trace = self.account.trace
        told = tuple(trace.render()) if broken or traced else ()
        return Verdict(self.seed, broken, told, len(trace.lines))

    def _schedule_people(self) -> None:
        later, people = self.account.scheduler.call_later, self.people
        if self.dice.random() < 0.5:  # every model may replace the live one: so there are more updates at a time
            for name in people.names:
                later(0.5, partial(people.put_recipe, name, FREE))
        later(1.0, lambda: people.upload(people.names[0]))
        if self.is_crowded:
            for _ in range(self.dice.randint(1, 5)):
                later(self.dice.uniform(2.0, 30.0), partial(people.upload, self.dice.choice(people.names)))
        for _ in range(self.dice.choice((0, 2, 5, 10, 15))):
            early = math.exp(self.dice.uniform(math.log(3.0), math.log(self.seconds)))
            later(self.dice.choice((early, self.dice.uniform(3.0, self.seconds))), people.act)

        for _ in range(self.dice.choice((0, 2, 6))):
            later(self.dice.uniform(self.seconds / 4, self.seconds), people.approve_any)

    def _schedule_sweeps(self, begin: float) -> None:
        moment = begin
        while moment < self.seconds:
            moment += self.dice.choice(GAPS) if self.seconds < DAY else self.dice.choice((600.0, HOUR, 4 * HOUR))
            for _ in range(2 if self.dice.random() < 0.2 else 1):
                self.account.scheduler.call_later(moment + self.dice.uniform(0.0, 2.0), self.functions.sweep)

    def _interfere(self, seconds: float) -> None:
        """Let others look, and sometimes act, while a call takes long."""
        later, people = self.account.scheduler.call_later, self.people
        self.interfered += 1
        if self.interfered > INTERFERENCES:  # else those that come meanwhile would bring others, without end
            return
        for _ in range(self.dice.choice((0, 1, 1, 2, 3))):
            later(self.dice.uniform(0.0, seconds), self.functions.sweep)
        if self.dice.random() < 0.2:
            later(self.dice.uniform(0.0, seconds), people.act)
        if self.dice.random() < 0.2:
            later(self.dice.uniform(0.0, seconds / 4), partial(people.upload, self.dice.choice(people.names)))

    def _schedule_quotas(self) -> None:
        """Let the account have none left of one kind for some time, or no machine of one type at all."""
        later, limits = self.account.scheduler.call_later, self.account.sagemaker.limits
        if not self.is_calm and self.dice.random() < 0.15:
            kind, begin = self.dice.choice(LIMITED), self.dice.uniform(0, self.seconds)
            later(begin, partial(limits.add, kind))
            later(begin + self.dice.uniform(60, 12 * HOUR), partial(limits.discard, kind))
        if not self.is_calm and self.dice.random() < 0.1:
            self.account.sagemaker.quotas["ml.g4dn.xlarge"] = self.dice.choice((0, 1))

    def _rest(self) -> None:
        """Let faults cease, and the schedule sweep until nothing moves any more."""
        self.account.trace.add("--- faults cease")
        self.faults.cease()
        self.functions.cease()
        self.account.sagemaker.limits.clear()
        was_quiet = False
        for gap in REST:
            self.functions.sweep()
            self.account.scheduler.run(gap)
            if was_quiet and self.is_quiet():  # a sweep has found nothing to begin
                return
            was_quiet = self.is_quiet()

    def is_quiet(self) -> bool:
        account = self.account
        moves = account.scheduler.running + account.sagemaker.moving + self.functions.coming + self.people.deleting
        return not moves and not account.list_keys("active/") and not account.list_keys("removals/")


def live(seed: int) -> Verdict:
    """Live through the history of a seed."""
    return History(seed).live()
