"""What a job's next cloud makes of the folder that a killed cloud left."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcloud.common.store import Record
from localcloud.jobs.checkpoints import CheckpointMirror
from localcloud.jobs.directory import JobDirectory
from localcloud.jobs.output import LogReader
from localcloud.sagemaker.core.cloud import Outcome
from localcloud.sagemaker.training.jobs import build_record
from tests.localcloud.sagemaker.simulation import SimulatedClock
from tests.localcloud.sagemaker_support import LocalSageMaker, build_training_request, name_job, wait_until

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Recorded:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.values: list[tuple[str, float]] = []

    def enter_stage(self, secondary: str, message: str | None = None) -> None: ...

    def add_metrics(self, points: Any) -> None:
        self.values += points

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def leave(local: LocalSageMaker, **members: Any) -> tuple[Record, JobDirectory]:
    """Make the folder of a job whose program had a model when its cloud was killed."""
    name = name_job("left")
    request = build_training_request(name, "s3://nowhere/code", f"s3://{local.bucket}/out")
    job = build_record(request, local.cloud.arn("training-job", name), MOMENT) | {"TrainingStartTime": MOMENT} | members
    directory = JobDirectory(local.home / "jobs" / name)
    directory.base.mkdir(parents=True)
    directory.prepare(job, 1)
    (directory.model / "model.pth").write_bytes(b"weights")
    return job, directory


def end(directory: JobDirectory) -> None:
    directory.exit_mark.write_text(json.dumps({"exit": 0, "stopped": None}))


def resume(local: LocalSageMaker, job: Record) -> Recorded:
    """Give the job to the next cloud's runner, and wait for its end."""
    report = Recorded()
    local.runner.start(job, report)
    wait_until(lambda: report.outcomes)
    return report


def test_a_program_that_had_ended_writes_back_nothing_of_its_siblings(local: LocalSageMaker) -> None:
    """Only the upload is made up for, and it is of the job's own checkpoints."""
    prefix = f"checkpoints/{name_job('shared')}/"
    local.put(f"{prefix}sibling", b"old")
    job, directory = leave(local, CheckpointConfig={"S3Uri": f"s3://{local.bucket}/{prefix}"})
    CheckpointMirror(local.s3, f"s3://{local.bucket}/{prefix}", directory.checkpoints, SimulatedClock()).fill()
    (directory.checkpoints / "mine").write_bytes(b"new")
    local.put(f"{prefix}sibling", b"newer")
    end(directory)
    assert resume(local, job).outcomes == [Outcome("Completed")]
    assert local.read(f"s3://{local.bucket}/{prefix}sibling") == b"newer"
    assert local.read(f"s3://{local.bucket}/{prefix}mine") == b"new"


def test_the_last_metrics_of_a_program_that_had_ended_are_read(local: LocalSageMaker) -> None:
    """A trial whose final objective was not read before the kill would count as one without."""
    metric = {"Name": "valid:score", "Regex": "valid:score=([0-9.]+)"}
    job, directory = leave(local)
    job["AlgorithmSpecification"]["MetricDefinitions"] = [metric]
    killed = LogReader(directory.log, directory.log_mark)
    directory.log.write_text("valid:score=0.1\n")
    assert killed.read() == ["valid:score=0.1"]
    killed.mark()
    with directory.log.open("a") as file:
        file.write("valid:score=0.9\n")
    end(directory)
    assert resume(local, job).values == [("valid:score", 0.9)]


def test_a_half_written_line_is_read_again_by_the_next_cloud(tmp_path: Path) -> None:
    """Only whole lines count as read."""
    log, mark = tmp_path / "log", tmp_path / "mark"
    reader = LogReader(log, mark)
    log.write_text("one\ntw")
    assert reader.read() == ["one"]
    reader.mark()
    with log.open("a") as file:
        file.write("o\n")
    assert LogReader(log, mark).read() == ["two"]


def test_a_job_whose_stop_was_under_way_keeps_its_model(local: LocalSageMaker) -> None:
    """What lies in the model folder is uploaded, as without the kill; the program is not run again."""
    job, directory = leave(local, TrainingJobStatus="Stopping")
    directory.log.write_text("begun\n")
    assert resume(local, job).outcomes == [Outcome("Stopped")]
    assert local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.pth": b"weights"}
    assert directory.log.read_text() == "begun\n"


def test_a_job_that_was_stopped_before_it_had_a_folder_ends(local: LocalSageMaker) -> None:
    """It waited for its cores when its stop and the kill came."""
    name = name_job("waiting")
    request = build_training_request(name, "s3://nowhere/code", f"s3://{local.bucket}/out")
    job = build_record(request, local.cloud.arn("training-job", name), MOMENT) | {"TrainingJobStatus": "Stopping"}
    assert resume(local, job).outcomes == [Outcome("Stopped")]


def test_an_unfinished_archive_does_not_stay(local: LocalSageMaker) -> None:
    """A kill while the model is packed leaves its archive: the next upload clears it away."""
    job, directory = leave(local)
    (directory.base / "tmp1234.tar.gz").write_bytes(b"half")
    end(directory)
    assert resume(local, job).outcomes == [Outcome("Completed")]
    wait_until(lambda: not list(directory.base.glob("*.tar.gz")))


def test_a_cut_exit_mark_is_none(local: LocalSageMaker) -> None:
    """It is written whole: no partial name is taken for it."""
    job, directory = leave(local, TrainingJobStatus="Stopping")
    directory.exit_mark.write_text("")
    assert resume(local, job).outcomes == [Outcome("Stopped")]
