"""DescribeTrainingJob shows the rules of a request, with the verdicts that the job's program wrote."""

from __future__ import annotations

from typing import Any

import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, wait_until

IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
JUDGE = """
import json, os, pathlib, time
folder = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints", os.environ["TRAINING_JOB_NAME"])
(folder / "profiler-reports").mkdir(parents=True)
def rule(name, status, details):
    return {"name": name, "status": status, "details": details, "parameters": {}, "steps": []}
def report(name, triggered):
    content = {"RuleTriggered": triggered, "Violations": triggered, "Datapoints": 9, "Details": {}}
    (folder / "profiler-reports" / f"{name}.json").write_text(json.dumps(content))
rules = [rule("DeadRelu", "IssuesFound", "step 3: dead"), rule("Overfit", "NoIssuesFound", "9 steps")]
rules += [rule("Confusion", "NotJudged", "too few")]
(folder / "rules.json").write_text(json.dumps({"format": 1, "rules": rules}))
report("BatchSize", 1)
report("StepOutlier", 0)
"""
WAIT = """
while True:
    time.sleep(0.1)
"""


def ask(*names: str) -> list[dict[str, Any]]:
    return [
        {
            "RuleConfigurationName": f"my-{name}",
            "RuleEvaluatorImage": IMAGE,
            "RuleParameters": {"rule_to_invoke": name},
        }
        for name in names
    ]


def begin(local: LocalSageMaker, program: str, **rules: Any) -> str:
    checkpoints = {"S3Uri": f"s3://{local.bucket}/{name_job('jobs')}/", "LocalPath": "/opt/ml/checkpoints"}
    return local.train(program, CheckpointConfig=checkpoints, **rules)


def tell(statuses: list[dict[str, Any]]) -> dict[str, str]:
    return {status["RuleConfigurationName"]: status["RuleEvaluationStatus"] for status in statuses}


def test_every_rule_of_the_request_has_its_status(local: LocalSageMaker) -> None:
    """Each status is listed by its configuration's name. ProfilerReport summarises the profiler's rules."""
    job = local.finish(
        begin(
            local,
            JUDGE,
            DebugRuleConfigurations=ask("DeadRelu", "Overfit", "Confusion"),
            ProfilerRuleConfigurations=ask("ProfilerReport", "BatchSize", "StepOutlier"),
        )
    )
    found = {"my-DeadRelu": "IssuesFound", "my-Overfit": "NoIssuesFound", "my-Confusion": "NoIssuesFound"}
    assert tell(job["DebugRuleEvaluationStatuses"]) == found, "SageMaker has no status of its own for a rule not judged"
    details = [each["StatusDetails"] for each in job["DebugRuleEvaluationStatuses"]]
    assert details == ["step 3: dead", "9 steps", "Not judged: too few"]
    assert tell(job["ProfilerRuleEvaluationStatuses"]) == {
        "my-ProfilerReport": "IssuesFound",
        "my-BatchSize": "IssuesFound",
        "my-StepOutlier": "NoIssuesFound",
    }
    assert job["ProfilerRuleEvaluationStatuses"][0]["StatusDetails"] == "BatchSize of 2 rules triggered."


def test_a_request_without_rules_is_told_of_none(local: LocalSageMaker) -> None:
    """SageMaker shows none either, whatever the program wrote."""
    job = local.finish(begin(local, JUDGE))
    assert not {"DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"} & set(job)


def test_a_rule_is_in_progress_until_it_finds_something(local: LocalSageMaker) -> None:
    """An issue shows while the job runs. That there is none is known only at the end. Then all statuses are kept."""
    rules = ask("DeadRelu", "Overfit")
    name = begin(local, JUDGE + WAIT, DebugRuleConfigurations=rules)
    assert set(tell(local.describe(name)["DebugRuleEvaluationStatuses"]).values()) == {"InProgress"}
    running = {"my-DeadRelu": "IssuesFound", "my-Overfit": "InProgress"}
    wait_until(lambda: tell(local.describe(name)["DebugRuleEvaluationStatuses"]) == running)
    local.sagemaker.stop_training_job(TrainingJobName=name)
    ended = {"my-DeadRelu": "IssuesFound", "my-Overfit": "NoIssuesFound"}
    assert tell(local.finish(name)["DebugRuleEvaluationStatuses"]) == ended
    prefix = local.describe(name)["CheckpointConfig"]["S3Uri"].split("/", 3)[3]
    local.s3.delete_object(Bucket=local.bucket, Key=f"{prefix}{name}/rules.json")
    assert tell(local.describe(name)["DebugRuleEvaluationStatuses"]) == ended


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_rule_without_a_verdict_is_an_error(local: LocalSageMaker, checkpoints: bool) -> None:
    """The program may not know the rule, may have died first, or may keep no checkpoints."""
    rules = {"DebugRuleConfigurations": ask("TensorVariance"), "ProfilerRuleConfigurations": ask("ProfilerReport")}
    program = "print('valid:score=1')"
    name = begin(local, program, **rules) if checkpoints else local.train(program, **rules)
    job = local.finish(name)
    for status in (*job["DebugRuleEvaluationStatuses"], *job["ProfilerRuleEvaluationStatuses"]):
        assert status["RuleEvaluationStatus"] == "Error"
        assert "wrote no verdict" in status["StatusDetails"]
