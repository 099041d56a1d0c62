"""Report the statuses of the debugger's and profiler's rules that a request asks for, as DescribeTrainingJob does.

AWS evaluates rules in its own containers beside the job. Here the program evaluates them itself and writes its verdicts
into its checkpoint folder: JOB/rules.json and JOB/profiler-reports/RULE.json. They are read from there. So there is no
RuleEvaluationJobArn, and the program decides a rule's parameters other than its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.common.store import Record
from localcloud.common.transfers import FAULTS, TransferError, list_objects, split_uri
from localcloud.sagemaker.core.cloud import Cloud

LONGEST_DETAILS = 1024
# SageMaker has no status for a rule that could not be judged: one whose tensors are missing finds no issues.
STATUSES = {"NotJudged": ("NoIssuesFound", "Not judged: ")}
NO_VERDICT = "The job's program wrote no verdict of this rule."
MEMBERS = {
    "DebugRuleConfigurations": "DebugRuleEvaluationStatuses",
    "ProfilerRuleConfigurations": "ProfilerRuleEvaluationStatuses",
}
Verdict = dict[str, Any]  # RuleEvaluationStatus, StatusDetails
Verdicts = dict[str, dict[str, Verdict]]  # by member of the request, by rule


def describe_rules(cloud: Cloud, job: Record) -> Record:
    """Return the members of a job's description that hold its rules' statuses; none without rules."""
    asked = {member: job[member] for member in MEMBERS if job.get(member)}
    if not asked:
        return {}
    verdicts = _read_verdicts(cloud, job)
    return {
        MEMBERS[member]: [_describe_rule(job, rule, verdicts[member]) for rule in rules]
        for member, rules in asked.items()
    }


def _describe_rule(job: Record, rule: Record, verdicts: Mapping[str, Verdict]) -> Record:
    name = rule.get("RuleParameters", {}).get("rule_to_invoke", rule["RuleConfigurationName"])
    told = {"RuleConfigurationName": rule["RuleConfigurationName"], "LastModifiedTime": job["LastModifiedTime"]}
    return told | _judge(job["TrainingJobStatus"], verdicts.get(name))


def _judge(status: str, verdict: Verdict | None) -> Verdict:
    """Return a rule's status. Its verdict counts once it has found issues, or the job has ended."""
    if status in ("InProgress", "Stopping"):
        found = verdict is not None and verdict["RuleEvaluationStatus"] == "IssuesFound"
        return verdict if found and verdict else {"RuleEvaluationStatus": status}
    if verdict is not None:
        return verdict
    return {"RuleEvaluationStatus": "Stopped" if status == "Stopped" else "Error", "StatusDetails": NO_VERDICT}


def _read_verdicts(cloud: Cloud, job: Record) -> Verdicts:
    """Read the verdicts from S3. Once the job has ended, they are kept with its record."""
    if "_verdicts" in job:
        kept: Verdicts = job["_verdicts"]
        return kept
    verdicts = {
        "DebugRuleConfigurations": _read_debugger(cloud, job),
        "ProfilerRuleConfigurations": _read_profiler(cloud, job),
    }
    if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
        _keep(cloud, job["TrainingJobName"], verdicts)
    return verdicts


def _keep(cloud: Cloud, name: str, verdicts: Verdicts) -> None:
    with cloud.lock:
        job = cloud.store.get("training-job", name)
        if job is not None:
            cloud.store.put("training-job", name, job | {"_verdicts": verdicts})


def _read_debugger(cloud: Cloud, job: Record) -> dict[str, Verdict]:
    found = _read_documents(cloud, job, "rules.json").values()
    rules = [rule for document in found for rule in document["rules"]]
    return {rule["name"]: _make_verdict(rule["status"], rule["details"]) for rule in rules}


def _read_profiler(cloud: Cloud, job: Record) -> dict[str, Verdict]:
    """Return every rule's verdict, and that of ProfilerReport, which summarises them."""
    reports = _read_documents(cloud, job, "profiler-reports/")
    triggered = [name for name, report in reports.items() if report["RuleTriggered"]]
    verdicts = {name: _tell_profiler_rule(report) for name, report in reports.items()}
    if reports:
        names = ", ".join(triggered) or "None"
        summary = f"{names} of {len(reports)} rules triggered."
        verdicts["ProfilerReport"] = _make_verdict("IssuesFound" if triggered else "NoIssuesFound", summary)
    return verdicts


def _tell_profiler_rule(report: Record) -> Verdict:
    if not report["Datapoints"]:
        return _make_verdict("NotJudged", "nothing of what it judges was measured.")
    details = f"{report['Violations']} violations in {report['Datapoints']} datapoints."
    return _make_verdict("IssuesFound" if report["RuleTriggered"] else "NoIssuesFound", details)


def _make_verdict(status: str, details: str) -> Verdict:
    told, prefix = STATUSES.get(status, (status, ""))
    return {"RuleEvaluationStatus": told, "StatusDetails": f"{prefix}{details}"[:LONGEST_DETAILS]}


def _read_documents(cloud: Cloud, job: Record, name: str) -> dict[str, Record]:
    """Return the JSON files of the job's checkpoint folder whose names begin with `name`, by their stems."""
    folder = job.get("CheckpointConfig", {}).get("S3Uri")
    if folder is None or cloud.s3 is None:
        return {}
    uri = f"{folder.rstrip('/')}/{job['TrainingJobName']}/{name}"
    try:
        return dict(_read_each(cloud.s3, uri))
    except (*FAULTS, TransferError, ValueError):  # not there yet, or half written
        return {}


def _read_each(s3: Any, uri: str) -> list[tuple[str, Record]]:
    bucket, _ = split_uri(uri)
    read: Callable[[str], bytes] = lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()  # noqa: E731
    keys = [item["Key"] for item in list_objects(s3, uri)]
    return [(key.rpartition("/")[2].removesuffix(".json"), json.loads(read(key))) for key in keys]
