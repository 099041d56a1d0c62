"""A SageMaker that does nothing but bill: jobs that start, are interrupted, fail, overrun and upload, second by second.

It knows nothing of `costs`. How long a job's work takes is told by `simulated_trainings`, epoch by epoch, on machines
each of whose constants is off by a factor of its own. So what it can show of an estimate is how it holds when machines,
trials that are ended early, starts, spot and failures differ from what was assumed: not whether the constants that it
draws about are right. Only real runs can show that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chalicelib.costs.plans import Limits, Plan
from chalicelib.costs.prices import Prices
from tests.histories.bills.simulated_trainings import Judge, Machines, Took, count_parameters

HOUR = 3600
MONTH = 730 * HOUR


@dataclass(frozen=True)
class Weather:
    """Ranges from which a world draws; the last two are chances, an hour and an attempt."""

    error: float = 0.1  # by which each constant of a machine may be off, up or down
    speed: tuple[float, float] = (1.0, 1.0)  # times which all work takes
    start: tuple[float, float] = (-20, 20)  # seconds more than the model says
    spot_share: tuple[float, float] = (0.36, 0.44)  # of the on-demand price
    gap: tuple[float, float] = (60, 600)  # that a spot job waits after it was interrupted
    upload: tuple[float, float] = (0, 20)
    interrupted: float = 0.1
    breaks: float = 0.0
    is_limit_of_starts: bool = True  # whether starting counts as running


FAIR = Weather()
FOUL = Weather(1.0, (0.2, 12.0), (-60, 220), (0.1, 1.0), (0, 3000), (0, 195), 6.0, 0.2)


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
        self.machines = Machines(self.random, weather.error)
        self.judge = Judge(plan.recipe, self.random)
        self.depths = [str(each) for each in plan.recipe.ranges.fine_tune.values]

    def bill_run(self) -> float:
        """The dollars of a run: its trials, its final training, its volumes, a month of its files."""
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
            time = self.machines.time_trial(self.plan, instance_type, self.draw_depth(), self.judge.count_epochs())
            job = self.run_job(time, self.limits.trial, self.limits.wait, left)
            free_at[slot] += job.took
            jobs.append((job, instance_type))
        return jobs

    def run_training(self) -> tuple[Job, str]:
        instance_type = self.choose_type(self.plan.training_types)
        epochs = self.judge.count_last_epochs()
        time = self.machines.time_training(self.plan, instance_type, self.draw_depth(), epochs)
        return self.run_job(time, self.limits.training, self.limits.wait, float("inf")), instance_type

    def choose_type(self, types: tuple[str, ...]) -> str:
        """The first one in fair weather; in foul weather whichever has capacity."""
        return types[0] if not self.weather.breaks else self.random.choice(types)

    def draw_depth(self) -> str:
        return self.random.choice(self.depths)

    def run_job(self, time: Took, limit: float, wait: float, ended_from_outside: float) -> Job:
        """Bill one job, which would take so long if nothing came between."""
        weather, draw = self.weather, self.random.uniform
        running = starting = gaps = saved = 0.0  # seconds of the limit, of the bill alone, of nothing, of kept work
        failures, finished = 0, False
        start = self.start_job()
        work = time.moving + time.working * self.speed * draw(0.95, 1.05)
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
        return max(0.0, self.machines.time_start() + self.random.uniform(*self.weather.start))

    def price(self, job: Job, instance_type: str) -> float:
        volume = self.prices.training_volume_gb_month * self.plan.volume_gb * job.held / MONTH
        return job.billable * self.prices.training[instance_type] / HOUR + volume

    def store(self, jobs: int) -> float:
        """A month of the dataset and of what the jobs left: each an archive, in foul weather with its checkpoints."""
        archive = count_parameters(self.plan.recipe.architecture) * 4
        each = archive * (4 if self.weather.breaks else 1) + self.random.uniform(0, 5e6)
        return (self.plan.zip_bytes + jobs * each) / 1e9 * self.prices.s3_gb_month
