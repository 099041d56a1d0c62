"""What must hold at the end of every history, whatever befell it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chalicelib.costs.estimates import price_job
from chalicelib.costs.prices import find_prices
from chalicelib.runs.identity import find_run_of_training, make_endpoint_name, make_run_id

if TYPE_CHECKING:
    from tests.histories.chaos.histories import History

UNDER_WAY = ("InProgress", "Stopping")
ENDS = ("deployed", "declined", "undecided", "rejected", "failed", "stopped", "superseded")


class Record:
    """What is left of a history: its runs and their results, by run."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.account = account = history.account
        self.sagemaker = account.sagemaker
        self.people = history.people
        self.runs = {key.split("/")[1]: account.read(key) for key in self._list("run.json")}
        self.deleted_stems = [make_run_id(account.settings, name, "", 0)[:-8] for name in self.people.asked_to_delete]
        self.approved = {key.split("/")[1] for key in self._list("approval.json")}
        first = {key.split("/")[1]: account.read(key) for key in self._list("result.json")}
        second = {key.split("/")[1]: account.read(key) for key in self._list("result-2.json")}
        self.results = {run_id: each for run_id, each in first.items() if run_id not in self.approved} | second

    def _list(self, name: str) -> list[str]:
        return [key for key in self.account.list_keys("runs/") if key.count("/") == 2 and key.endswith(f"/{name}")]

    def count_lives(self, run_id: str) -> int:
        """Return how often a run was begun, at most: a removed one may be retried under its name. Its cost is written
        after that."""
        return max(1, (self.account.s3.counts.get(f"runs/{run_id}/run.json", 0) + 1) // 2)

    def order(self, run_id: str) -> tuple[str, str]:
        return (self.runs[run_id]["created_at"], run_id)


def find_broken(history: History) -> Iterator[str]:
    """Yield a sentence for each rule that a history breaks."""
    record = Record(history)
    yield from history.functions.crashes
    for rule in RULES:
        yield from rule(record)


def every_run_ends_with_a_reason(record: Record) -> Iterator[str]:
    for run_id in record.runs:
        result = record.results.get(run_id)
        if result is None:
            yield f"the run {run_id} never ends"
        elif result["status"] not in ENDS or (result["status"] != "deployed" and not result["reason"]):
            yield f"the run {run_id} ends {result['status']} with the reason {result['reason']!r}"
    for key in record.account.list_keys("active/"):
        yield f"{key} is never closed"


def every_upload_has_a_run(record: Record) -> Iterator[str]:
    """The same bytes again need none: whether both uploads get one depends on how fast they follow each other."""
    begun = {(run["key"], run["etag"]) for run in record.runs.values()}
    for key in record.account.list_keys("datasets/"):
        current = record.account.s3.versions[key][-1]
        if key.endswith(".zip") and (key, current.etag) not in begun:
            yield f"the upload {key} {current.version} has no run"


def no_run_is_a_ghost(record: Record) -> Iterator[str]:
    """Nothing lies in the folder, in the list or in the markers of a run that is not there."""
    for key in sorted({*record.account.s3.versions}):
        room, _, rest = key.partition("/")
        place = {"runs": 0, "active": 0, "index": 1}.get(room)
        if place is not None and rest.split("/")[place] not in record.runs:
            if "/output/" in key or "/jobs/" in key:  # what a job uploads as it ends, whoever is gone by then
                continue
            yield f"{key} belongs to a run that is not there"


def one_of_each_a_run(record: Record) -> Iterator[str]:
    """One tuning job, one training job with a machine, one deployment that did not go back by itself."""
    trainings: Counter[str] = Counter()
    for name, job in record.sagemaker.kept["TrainingJob"].items():
        run_id = find_run_of_training(name)
        if run_id and "CapacityError" not in job.get("FailureReason", ""):
            trainings[run_id] += 1
    for run_id, count in trainings.items():
        if count > 1:
            yield f"the run {run_id} has {count} training jobs"
    for (kind, name), count in record.sagemaker.created.items():
        if kind.endswith("Job") and count > 1:
            yield f"{kind} {name} is created {count} times"
    for run_id, count in record.sagemaker.deployed.items():
        if count > record.count_lives(run_id) + record.sagemaker.undone[run_id]:
            yield f"the run {run_id} is deployed {count} times"
    for name in record.sagemaker.kept["HyperParameterTuningJob"]:
        if name not in record.runs and not any(name.startswith(stem) for stem in record.deleted_stems):
            yield f"the tuning job {name} has no run"


def nothing_bills_unknown(record: Record) -> Iterator[str]:
    for kind in ("HyperParameterTuningJob", "TrainingJob"):
        for name, job in record.sagemaker.kept[kind].items():
            if job[f"{kind}Status"] in UNDER_WAY:
                yield f"{kind} {name} is {job[f'{kind}Status']} for ever"
    for name, endpoint in record.sagemaker.kept["Endpoint"].items():
        run_id = endpoint["EndpointConfigName"]
        status = record.results.get(run_id, {}).get("status", "unknown")
        if endpoint["EndpointStatus"] != "Failed" and status != "deployed":
            yield f"the endpoint {name} is {endpoint['EndpointStatus']} with the run {run_id}, which is {status}"
    for target in record.account.autoscaling.targets:
        if target.split("/")[1] not in record.sagemaker.kept["Endpoint"]:
            yield f"{target} scales, and is not there"


def the_newest_is_deployed_last(record: Record) -> Iterator[str]:
    """The endpoint serves the newest run that is deployed, unless a person took the model down at some time."""
    for name in sorted({run["dataset"] for run in record.runs.values()} - record.people.taken_down):
        own = [run_id for run_id, run in record.runs.items() if run["dataset"] == name]
        deployed = [each for each in own if record.results.get(each, {}).get("status") == "deployed"]
        endpoint = record.sagemaker.kept["Endpoint"].get(make_endpoint_name(record.account.settings, name))
        if not deployed:
            continue
        newest = max(deployed, key=record.order)
        # an endpoint that a later run could not be moved to had to go
        is_replaced = any(record.order(each) > record.order(newest) for each in own if record.sagemaker.deployed[each])
        if endpoint is None and not is_replaced:
            yield f"the endpoint of {name!r} is not there, and {newest} is deployed"
        elif endpoint and endpoint["EndpointStatus"] == "InService" and endpoint["EndpointConfigName"] != newest:
            yield f"the endpoint of {name!r} serves {endpoint['EndpointConfigName']}, and {newest} is deployed"


def no_model_replaces_one_unseen(record: Record) -> Iterator[str]:
    """A model takes the place of the one that it was compared with, or a person or the recipe let it through."""
    for old, new in record.sagemaker.moves:
        key = f"runs/{new}/decision.json"
        if new not in record.runs or key not in record.account.s3.versions or record.count_lives(new) > 1:
            continue
        promotion = record.account.read(key)["promotion"] or {}
        is_judged = promotion.get("action") == "deploy" and promotion["compared_with"] == old
        if not (is_judged or promotion.get("when") == "always" or new in record.approved):
            yield f"the run {new} takes the place of {old}, and was judged {promotion.get('action')}"


def find_bill(record: Record, run_id: str) -> float:
    """Return the dollars of all jobs that SageMaker ran for a run."""
    run = record.runs[run_id]
    prices = find_prices(record.account.settings.aws_region)
    assert prices is not None
    usd = 0.0
    for name, job in record.sagemaker.kept["TrainingJob"].items():
        is_of_run = find_run_of_training(name) == run_id or name.rsplit("-", 2)[0] == run_id
        if is_of_run and "TrainingStartTime" in job:
            ended = job.get("TrainingEndTime", record.account.clock.time)
            seconds = math.ceil((ended - job["TrainingStartTime"]).total_seconds())
            billable = job.get("BillableTimeInSeconds", seconds)
            billed = {
                "instance_type": job["ResourceConfig"]["InstanceType"],
                "billable_seconds": billable,
                "seconds": max(seconds, billable),
            }
            usd += price_job(billed, prices, int(run["cost"].get("volume_gb", 0))) or 0.0
    return round(usd, 4)


def the_ledger_equals_the_bills(record: Record) -> Iterator[str]:
    cap = record.account.settings.monthly_cap_usd
    ledgers = record.account.list_keys("ledger/")
    for key in ledgers:
        for version in record.account.s3.versions[key]:
            ledger = json.loads(version.body)
            total = sum(entry["usd"] for entry in ledger["runs"].values())
            if cap and total > cap + 1e-6:
                yield f"{key} {version.version} holds {total:.4f} dollars, and the cap is {cap}"
            if both := ledger["runs"].keys() & ledger["queue"].keys():
                yield f"{key} {version.version} holds {both} twice"
    for run_id, run in record.runs.items():
        if not run.get("cost") or run["cost"].get("worst_usd") is None:
            continue
        bill = find_bill(record, run_id)
        yield from _compare(record, run_id, bill, ledgers)


def _compare(record: Record, run_id: str, bill: float, ledgers: list[str]) -> Iterator[str]:
    settlement = f"runs/{run_id}/settlement.json"
    if settlement not in record.account.s3.versions:
        yield f"the run {run_id} is never settled"
        return
    if abs(record.account.read(settlement)["spent_usd"] - bill) > 2e-4:
        yield f"{settlement} says {record.account.read(settlement)['spent_usd']}, and SageMaker bills {bill}"
    entries: list[dict[str, Any]] = []
    for key in ledgers:
        ledger = record.account.read(key)
        if run_id in ledger["queue"]:
            yield f"{key} still has {run_id} in its queue"
        if entry := ledger["runs"].get(run_id):
            entries.append(entry)
            if entry["state"] != "settled" or abs(entry["usd"] - bill) > 2e-4:
                yield f"{key} has {entry} for {run_id}, and SageMaker bills {bill}"
    if record.account.settings.monthly_cap_usd and bill and not entries:
        yield f"no ledger has {run_id}, and SageMaker bills {bill}"


def what_was_deleted_is_gone(record: Record) -> Iterator[str]:
    for name, asked_at in record.people.deleted.items():
        if any(moment >= asked_at for moment in record.people.uploaded[name]):
            continue
        stem = make_run_id(record.account.settings, name, "", 0)[:-8]
        tags = record.sagemaker.tags
        s3 = record.account.s3
        for key in sorted({*s3.versions, *s3.hidden}):
            own = key.startswith((f"datasets/{name}.zip", f"datasets/{name}.json", f"models/{name}/"))
            if own or (key.startswith("runs/") and key.split("/")[1] in record.runs and _is_of(record, key, name)):
                yield f"{key} is left of the deleted dataset {name!r}"
        for kind in ("Endpoint", "EndpointConfig", "Model"):
            for thing, kept in record.sagemaker.kept[kind].items():
                if tags[kept[f"{kind}Arn"]].get("whippet:dataset") == name and thing.startswith(stem[:10]):
                    yield f"{kind} {thing} is left of the deleted dataset {name!r}"


def _is_of(record: Record, key: str, name: str) -> bool:
    return bool(record.runs[key.split("/")[1]]["dataset"] == name)


def every_notification_goes_out_at_most_twice(record: Record) -> Iterator[str]:
    by_event = Counter((detail["run_id"], event) for event, detail in record.account.events.sent)
    messages = [json.loads(message["Message"]) for message in record.account.sns.sent]
    by_message = Counter((detail["run_id"], detail["event"]) for detail in messages)
    for channel, counts in (("EventBridge", by_event), ("SNS", by_message)):
        for (run_id, event), count in counts.items():
            lives = record.count_lives(run_id)
            wounds = record.account.faults.wounds[run_id, event.lower().replace(" ", "-")]
            if count > max(2, 1 + wounds) * lives:
                yield f"{channel} gets {event} of {run_id} {count} times"


RULES = (
    every_run_ends_with_a_reason,
    every_upload_has_a_run,
    no_run_is_a_ghost,
    one_of_each_a_run,
    nothing_bills_unknown,
    the_newest_is_deployed_last,
    no_model_replaces_one_unseen,
    the_ledger_equals_the_bills,
    what_was_deleted_is_gone,
    every_notification_goes_out_at_most_twice,
)
