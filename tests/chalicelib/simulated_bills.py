"""A SageMaker that does nothing but bill: jobs that start, are interrupted, fail, overrun and upload, second by second.

It knows nothing of `costs`. How long a job's work takes is the throughput model's guess times a factor that the world
draws, so what it can show of an estimate is how it holds when machines, starts, spot and failures differ from what was
assumed: not whether the model's constants are right. Only real runs can show that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from chalicelib.plans import Limits, Plan
from chalicelib.prices import Prices
from chalicelib.recipes import Choices
from chalicelib.throughput import START_SECONDS, Time, model_training, model_trial, read_throughput

HOUR = 3600
MONTH = 730 * HOUR


@dataclass(frozen=True)
class Weather:
    """Ranges from which a world draws; the last two are chances, an hour and an attempt."""

    speed: tuple[float, float] = (0.9, 1.1)  # times what the model says that work takes
    start: tuple[float, float] = (-20, 20)  # seconds more than the model says
    spot_share: tuple[float, float] = (0.36, 0.44)  # of the on-demand price
    gap: tuple[float, float] = (60, 600)  # that a spot job waits after it was interrupted
    upload: tuple[float, float] = (0, 20)
    interrupted: float = 0.1
    breaks: float = 0.0
    is_limit_of_starts: bool = True  # whether starting counts as running


FAIR = Weather()
FOUL = Weather((0.2, 12.0), (-60, 220), (0.1, 1.0), (0, 3000), (0, 195), 6.0, 0.2)


@dataclass(frozen=True)
class Job:
    """What one job was billed: the seconds after spot's saving, and those for which its volume was there."""

    billable: float
    held: float
    took: float
    finished: bool


class World:
    """One region on one day."""

    def __init__(self, plan: Plan, limits: Limits, prices: Prices, weather: Weather, seed: int) -> None:
        self.plan, self.limits, self.prices, self.weather = plan, limits, prices, weather
        self.random = random.Random(seed)
        self.speed = self.random.uniform(*weather.speed)
        self.depths = [str(each) for each in plan.recipe.ranges.fine_tune.values]

    def bill_run(self) -> float:
        """The dollars of a run: its trials, its last training, its volumes, a month of its files."""
        trials = self.run_trials()
        return sum(self.price(*each) for each in trials) + self.finish_run(len(trials))

    def finish_run(self, trials: int) -> float:
        """The dollars of what comes after the trials."""
        return self.price(*self.run_training()) + self.store(trials + 1)

    def run_trials(self) -> list[tuple[Job, str]]:
        """Each trial and its instance type, under the limit of the whole tuning job."""
        free_at, jobs = [0.0] * self.plan.recipe.parallel_trials, []
        for _ in range(self.plan.recipe.trials):
            slot = free_at.index(min(free_at))
            left = self.limits.tuning - free_at[slot]
            if left <= 0:
                break
            instance_type = self.choose_type(self.plan.trial_types)
            time = model_trial(self.fix_depth(), instance_type)
            job = self.run_job(time, self.limits.trial, self.limits.wait, left)
            free_at[slot] += job.took
            jobs.append((job, instance_type))
        return jobs

    def run_training(self) -> tuple[Job, str]:
        instance_type = self.choose_type(self.plan.training_types)
        time = model_training(self.fix_depth(), instance_type)
        return self.run_job(time, self.limits.training, self.limits.wait, float("inf")), instance_type

    def choose_type(self, types: tuple[str, ...]) -> str:
        """The first one in fair weather; in foul weather whichever has capacity."""
        return types[0] if not self.weather.breaks else self.random.choice(types)

    def fix_depth(self) -> Plan:
        ranges = replace(self.plan.recipe.ranges, fine_tune=Choices((self.random.choice(self.depths),)))
        return replace(self.plan, recipe=replace(self.plan.recipe, ranges=ranges))

    def run_job(self, time: Time, limit: float, wait: float, ended_from_outside: float) -> Job:
        """Bill one job: the model's time, as this world draws it."""
        weather, draw = self.weather, self.random.uniform
        running = starting = gaps = saved = 0.0  # seconds of the limit, of the bill alone, of nothing, of kept work
        failures, finished = 0, False
        start = self.start_job()
        work = time.fixed - START_SECONDS + time.work * self.speed * draw(0.95, 1.05)
        longest = limit + wait if self.plan.spot else float("inf")
        while True:
            running += start if weather.is_limit_of_starts else 0.0
            starting += 0.0 if weather.is_limit_of_starts else start
            room = max(0.0, min(limit - running, longest - running - gaps, ended_from_outside - running - gaps))
            needed = max(0.0, work - saved)
            strikes = self.random.expovariate(weather.interrupted / HOUR) if self.plan.spot else float("inf")
            breaks = draw(0, needed) if failures < 2 and self.random.random() < weather.breaks else float("inf")
            step = min(needed, room, strikes, breaks)
            running += step
            if step in (needed, room):
                finished = step == needed
                break
            saved += step * draw(0.7, 1.0)  # what the last checkpoint holds
            failures += step == breaks
            gaps += draw(*weather.gap) if step == strikes else 0.0
            start = self.start_job()
            if min(limit - running, longest - running - gaps, ended_from_outside - running - gaps) <= 0:
                break
        ending = draw(*weather.upload) + (0.0 if finished else draw(0, 60) + draw(0, 120))
        held = running + starting + ending
        share = draw(*weather.spot_share) if self.plan.spot else 1.0
        return Job(held * share, held, held + gaps, finished)

    def start_job(self) -> float:
        return max(0.0, START_SECONDS + self.random.uniform(*self.weather.start))

    def price(self, job: Job, instance_type: str) -> float:
        volume = self.prices.training_volume_gb_month * self.plan.volume_gb * job.held / MONTH
        return job.billable * self.prices.training[instance_type] / HOUR + volume

    def store(self, jobs: int) -> float:
        """A month of the dataset and of what the jobs left: each an archive, in foul weather with its checkpoints."""
        archive = read_throughput()["architectures"][self.plan.recipe.architecture][2] * 4e6
        each = archive * (4 if self.weather.breaks else 1) + self.random.uniform(0, 5e6)
        return (self.plan.zip_bytes + jobs * each) / 1e9 * self.prices.s3_gb_month
