"""What people do to an account: they upload, stop, retry, approve and delete at any moment, and look on meanwhile."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from chalicelib import errors
from chalicelib.models.catalog import delete_model, list_models
from chalicelib.pipeline.intake import approve_run, retry_run, sign_dataset_upload, stop_run
from chalicelib.pipeline.progress import describe_run, list_runs
from chalicelib.pipeline.removal import Unfinished, delete_dataset
from chalicelib.runs.listing import APPROVABLE
from chalicelib.services import Services
from tests.histories.chaos.account import Account
from tests.histories.chaos.functions import API_LIMIT, Functions
from tests.histories.chaos.scheduling import Task
from tests.support.pictures import build_colour_zip

ZIPS = [build_colour_zip(seed, counts={"train": 2, "valid": 1, "test": 1}) for seed in range(3)]
FREE: dict[str, Any] = {"trials": 1, "parallel_trials": 1, "promotion": {"when": "always"}}
RECIPES: list[dict[str, Any]] = [
    {"trials": 2},
    {"trials": 1, "parallel_trials": 1, "max_runtime_seconds": {"trial": 300, "training": 300}},
    {"trials": 3, "endpoint": {"kind": "instance", "min_instances": 1, "max_instances": 2}},
    {"trials": 2, "endpoint": {"kind": "instance"}, "instance_types": {"endpoint": ["ml.m5.large", "ml.c5.large"]}},
    {"trials": 2, "gate": {"min_accuracy": 0.8}},
    {"trials": 2, "budget_usd": 0.01},
    {"trials": 1, "parallel_trials": 1, "promotion": {"when": "ask"}},
    FREE,
    {"trials": "many"},
]
NAMES = ("dogs", "cats", "Dogs!")  # the first and the last have one slug
ODD_NAMES = ("d\x01gs", "Ü" * 101, "..", "a b+c%20d")
ACTIONS = {
    "upload": 8,
    "recipe": 3,
    "stop": 3,
    "retry": 3,
    "approve": 4,
    "delete model": 2,
    "delete dataset": 2,
    "look": 3,
}
AGAIN = 30.0  # seconds after which a person asks again for a deletion that is not finished


class People:
    """The people of an account. They remember what they did, so that the end can be judged by it."""

    def __init__(self, account: Account, functions: Functions, dice: random.Random) -> None:
        self.account, self.functions, self.dice = account, functions, dice
        self.names = list(dice.choice((("dogs",), ("dogs", "cats"), NAMES)))
        if dice.random() < 0.1:
            self.names.append(dice.choice(ODD_NAMES))
        self.uploaded: dict[str, list[datetime]] = defaultdict(list)
        self.deleted: dict[str, datetime] = {}
        self.taken_down: set[str] = set()
        self.asked_to_delete: set[str] = set()
        self.stopped: set[str] = set()
        self.deleting = 0

    def act(self) -> None:
        """Do one thing or another: where a model serves, more often to it."""
        action = self.dice.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        name = self.dice.choice(self.names)
        if self.account.sagemaker.kept["Endpoint"] and self.dice.random() < 0.3:
            action = self.dice.choice(("upload", "upload", "delete model", "delete dataset"))
        if self.list_approvable() and self.dice.random() < 0.3:
            action = "approve"
        if action == "upload":
            self.upload(name)
        elif action == "recipe":
            self.put_recipe(name)
        elif action == "delete model":
            self.taken_down.add(name)
            self._ask(f"DELETE model {name[:9]}", partial(delete_model, name))
        elif action == "delete dataset":
            self.delete(name, tries=self.dice.choice((1, 5, 40)))
        elif action == "approve":
            self.approve()
        elif run_id := self._choose_run():
            self._act_on_run(action, run_id)

    def _act_on_run(self, action: str, run_id: str) -> None:
        if action == "stop":
            self.stopped.add(run_id)
            self._ask(f"stop {run_id[-8:]}", partial(stop_run, run_id, "ann"))
        elif action == "retry":
            self._note_upload(self.account.read(f"runs/{run_id}/run.json")["dataset"])
            self._ask(f"retry {run_id[-8:]}", partial(retry_run, run_id))
        else:
            self._ask("GET runs", lambda services: (list_runs(None, None, services), list_models(services))[0])
            self._ask(f"GET run {run_id[-8:]}", partial(describe_run, run_id))

    def approve(self) -> None:
        """Approve a model that was not deployed, if there is one, else any run's: that is refused."""
        ended = self.list_approvable()
        if run_id := self.dice.choice(ended) if ended else self._choose_run():
            self._ask(f"approve {run_id[-8:]}", partial(approve_run, run_id, "ann"))

    def approve_any(self) -> None:
        """Approve a model that was not deployed, if there is one."""
        if self.list_approvable():
            self.approve()

    def list_approvable(self) -> list[str]:
        """List the runs that ended undecided or declined, approved ones too."""
        results = [key for key in self.account.list_keys("runs/") if key.endswith("/result.json")]
        return [key.split("/")[1] for key in results if self.account.read(key)["status"] in APPROVABLE]

    def _choose_run(self) -> str | None:
        runs = [key.split("/")[1] for key in self.account.list_keys("runs/") if key.endswith("/run.json")]
        return self.dice.choice(runs) if runs else None

    def _ask(self, name: str, work: Callable[..., object], ended: Callable[[Task], object] = lambda task: None) -> None:
        def answer(services: Services) -> object:
            return work(services=services)

        self.functions.invoke(name, answer, API_LIMIT, ended)

    def upload(self, name: str) -> None:
        """Upload a dataset, with whatever name the door lets through: new, the same again, or no zip at all."""
        body = self.dice.choice(ZIPS) if self.dice.random() < 0.97 else b"no zip"
        try:
            sign_dataset_upload(name, self.account.services())
        except errors.InvalidName:
            if self.dice.random() < 0.5:  # the other half uploads straight to the bucket
                return
        self.put(f"{name}.zip", body)

    def put_recipe(self, name: str, recipe: dict[str, Any] | None = None) -> None:
        self.put(f"{name}.json", json.dumps(recipe or self.dice.choice(RECIPES)).encode())

    def put(self, file: str, body: bytes) -> None:
        self.account.trace.add(f"a person puts datasets/{file}")
        self.account.upload(file, body)
        name = file.rpartition(".")[0]
        self._note_upload(name)
        self.functions.emit_upload(name)

    def _note_upload(self, name: str) -> None:
        self.uploaded[name].append(self.account.clock.time)

    def delete(self, name: str, tries: int) -> None:
        """Ask for the deletion of a dataset, again and again until it is done or the patience ends."""
        asked_at = self.account.clock.time
        self.deleting += 1
        self.taken_down.add(name)
        self.asked_to_delete.add(name)

        def end(task: Task) -> None:
            self.deleting -= 1
            is_gone = isinstance(task.failure, errors.NotFound)
            is_done = is_gone or (isinstance(task.answer, dict) and not isinstance(task.answer, Unfinished))
            if is_done or task.answer:  # 202: what is left goes by itself
                self.deleted[name] = asked_at
            if not is_done and tries > 1 and not isinstance(task.failure, errors.BadRequest):
                self.deleting += 1
                self.account.scheduler.call_later(AGAIN, partial(self._delete_again, name, tries - 1))

        self._ask(f"DELETE dataset {name[:9]}", partial(delete_dataset, name), end)

    def _delete_again(self, name: str, tries: int) -> None:
        self.deleting -= 1
        self.delete(name, tries)
