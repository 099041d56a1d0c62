"""Find what a kill must not leave behind: half-written files, repeated jobs, runs without a reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from localcloud.common.durable import PARTIAL
from tests.support.local_cloud import LocalCloud

UNFINISHED = (".tmp", ".partial", PARTIAL)  # in the names of files that are renamed when they are complete
TRIALS = 2
STARTS = "local cloud: train.py runs on"
LIVE = ("jobs", "endpoints")


def find_unexplained(runs: list[dict[str, Any]], hit: set[str]) -> list[str]:
    """Return the runs that ended without a model and say no reason, or had none.

    A run may fail that lost all its trials, its training or its endpoint's server. A killed cloud is no reason.
    """
    unshipped = [run for run in runs if run["status"] != "deployed"]
    faults = [f"{run} says no reason" for run in unshipped if not run.get("reason")]
    return faults + [
        f"{run} has no reason: of {sorted(hit)} nothing ends it" for run in unshipped if is_spared(run, hit)
    ]


def is_spared(run: dict[str, Any], hit: set[str]) -> bool:
    """Return whether a run could go on after the kills of its processes."""
    own = [place for place in hit if f"-{run['dataset']}-" in place]
    trials = [place for place in own if re.fullmatch(r"jobs/.*-\d{3}-[0-9a-f]{8}", place)]
    return len(trials) < TRIALS and len(trials) == len(own)


def find_repetitions(cloud: LocalCloud, run: dict[str, Any], kills: int) -> list[str]:
    """Return what there is too much of in a run: tuning jobs, trials, trainings, starts of one job."""
    name = run.get("run_id", "")
    tunings = cloud.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name, MaxResults=100)
    jobs = [
        job
        for page in cloud.sagemaker.get_paginator("list_training_jobs").paginate(NameContains=name)
        for job in page["TrainingJobSummaries"]
    ]
    described = [cloud.sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"]) for job in jobs]
    trials = [job["TrainingJobName"] for job in described if "TuningJobArn" in job]
    finals = [job["TrainingJobName"] for job in described if "TuningJobArn" not in job]
    faults = []
    if len(tunings["HyperParameterTuningJobSummaries"]) > 1:
        faults.append(f"{name} has several tuning jobs")
    if len(trials) > TRIALS:
        faults.append(f"{name} has the trials {trials}")
    if len(finals) > 1:
        faults.append(f"{name} has the trainings {finals}")
    for job in described:
        log = cloud.home / "jobs" / job["TrainingJobName"] / "log.txt"
        starts = log.read_text(errors="replace").count(STARTS) if log.exists() else 0
        if starts > 1 + kills:
            faults.append(f"{job['TrainingJobName']} was started {starts} times with {kills} kills")
        if job["TrainingJobStatus"] == "Completed" and not has_artifact(cloud, job):
            faults.append(f"{job['TrainingJobName']} is Completed without a whole artifact")
    return faults


def has_artifact(cloud: LocalCloud, job: dict[str, Any]) -> bool:
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    try:
        body = cloud.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except cloud.s3.exceptions.NoSuchKey:
        return False
    return is_whole_archive(body)


def find_broken_objects(cloud: LocalCloud) -> list[str]:
    """Return the objects of the bucket whose bodies are not what was put there, or are cut documents."""
    faults = []
    for page in cloud.s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket):
        for item in page.get("Contents", []):
            body = cloud.s3.get_object(Bucket=cloud.bucket, Key=item["Key"])["Body"].read()
            check = find_check(item["Key"])
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            if len(body) != item["Size"] or ("-" not in item["ETag"] and item["ETag"].strip('"') != digest):
                faults.append(f"the body of {item['Key']} is not what was put there")
            elif check is not None and body and not check(body):
                faults.append(f"{item['Key']} is cut")
    return faults


def find_broken_files(folder: Path) -> list[str]:
    """Return the state files and objects of a cloud that has ended which are half written, or were set aside."""
    faults = [f"{path} is unfinished" for path in walk(folder) if any(word in path.name for word in UNFINISHED)]
    faults += [f"{path} was broken" for path in folder.rglob("*.broken-*")]
    for path in walk(folder):
        check = find_check(path.name)
        if check is not None and not check(path.read_bytes()):
            faults.append(f"{path} is cut")
    return faults


def walk(folder: Path) -> Iterator[Path]:
    """Yield every state file, but not what lies in the folders of jobs and endpoints."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in LIVE:
            yield path


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def is_document(body: bytes) -> bool:
    """Return whether a `.json` is whole. The profiler's hold one document in each line."""
    return is_json(body) or is_json_lines(body)


def is_json_lines(body: bytes) -> bool:
    return all(is_json(line) for line in body.splitlines())


def is_whole_archive(body: bytes) -> bool:
    try:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            return all(archive.extractfile(item).read() is not None for item in archive if item.isfile())  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error):
        return False


def is_gzip(body: bytes) -> bool:
    try:
        gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def is_zip(body: bytes) -> bool:
    return zipfile.is_zipfile(io.BytesIO(body))


CHECKS: dict[str, Callable[[bytes], bool]] = {
    ".tar.gz": is_whole_archive,
    ".gz": is_gzip,
    ".json": is_document,
    ".jsonl": is_json_lines,
    ".zip": is_zip,
}


def find_check(name: str) -> Callable[[bytes], bool] | None:
    """Return what tells whether a file of this name is whole, or None for one that can be anything."""
    return next((check for ending, check in CHECKS.items() if name.endswith(ending)), None)
