"""Measure a tuning of head trials in the local cloud against the course's way: a process a trial, nothing shared.

Both sides take turns on the same photographs and weights. Ours runs two trials at a time, as recipes do by default. The
course's processes run one after another with all cores, and for 4 x 2 also two at a time with their share of the cores:
the claims are about whichever was faster in the first turn, and only that way is repeated. Ours is timed from
CreateHyperParameterTuningJob until the job is Completed in a cloud that is up, with folders in which nothing is kept
yet; the course's from the unpacking until the last process ends. A variant of the course's that caches features is
shown beside it, run once in the faster way.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.local.small_jobs import IMAGE, ROLE
from benchmarks.results import claim, spread, write_result
from benchmarks.training.finetune import write_weights
from benchmarks.training.photos import unzip, write_photos
from infrastructure.packaging.source import pack_source
from tests.support.local_cloud import LocalCloud, run_local_cloud, wait_until

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
COUNTS = {"train": 240, "valid": 40, "test": 40}
RATES, BATCHES = ("0.5", "1.0", "2.0", "4.0"), ("16", "32")
REPEATS, AT_ONCE = 3, 2
COURSE, TWO, CACHED = "course", "course, two at a time", "course with cached features"
REGEX = r"valid:score=([-+0-9.eE]+)"


def upload(cloud: LocalCloud, folder: Path) -> None:
    """Put program, dataset and weights where the jobs' channels find them."""
    cloud.s3.put_object(Bucket=cloud.bucket, Key="code/tuning.tar.gz", Body=pack_source(ROOT))
    cloud.s3.upload_file(str(folder / "dataset.zip"), cloud.bucket, "tuning/dataset/dataset.zip")
    cloud.s3.upload_file(str(folder / "weights/resnet18.pth"), cloud.bucket, "tuning/weights/resnet18.pth")


def build_channel(cloud: LocalCloud, name: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{cloud.bucket}/tuning/{name}/"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def build_request(cloud: LocalCloud, name: str, trials: int, epochs: int) -> dict[str, Any]:
    """Build a tuning job of head trials."""
    fixed = {"fine_tune": "head", "epochs": str(epochs), "image_size": "224", "pretrained": "imagenet"}
    code = f"s3://{cloud.bucket}/code/tuning.tar.gz"
    script = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": json.dumps(code)}
    ranges = [{"Name": "learning_rate", "Values": list(RATES)}, {"Name": "batch_size", "Values": list(BATCHES)}]
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Grid" if trials == len(RATES) * len(BATCHES) else "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "valid:score"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": AT_ONCE},
            "ParameterRanges": {"CategoricalParameterRanges": ranges},
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": {**script, **fixed},
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "valid:score", "Regex": REGEX}],
            },
            "RoleArn": ROLE,
            "InputDataConfig": [build_channel(cloud, each) for each in ("dataset", "weights")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{cloud.bucket}/tuning/output/"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
    }


def tune_ours(folder: Path, trials: int, epochs: int) -> dict[str, Any]:
    """Run the tuning in a cloud of its own. Return its seconds, those of each trial, and what the first one logged."""
    with tempfile.TemporaryDirectory() as home, run_local_cloud(Path(home) / "state") as cloud:
        upload(cloud, folder)
        client = cloud.sagemaker  # made before the clock starts: it belongs to whoever asks
        begun = time.perf_counter()
        client.create_hyper_parameter_tuning_job(**build_request(cloud, "tuning", trials, epochs))

        def look() -> str | None:
            told = cloud.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")
            status: str = told["HyperParameterTuningJobStatus"]
            return None if status == "InProgress" else status

        status = wait_until(look, within=900, what="the tuning has ended")
        seconds = time.perf_counter() - begun
        listed = cloud.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName="tuning", MaxResults=100
        )
        jobs = sorted(listed["TrainingJobSummaries"], key=lambda job: job["CreationTime"])
        failed = [job["TrainingJobName"] for job in jobs if job["TrainingJobStatus"] != "Completed"]
        if status != "Completed" or failed or len(jobs) != trials:
            raise SystemExit(f"the tuning ended {status} with {len(jobs)} trials, of which failed: {failed}")
        each = [(job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds() for job in jobs]
    return {"seconds": seconds, "trials": each}


def tune_course(folder: Path, trials: int, epochs: int, *more: str, at_once: int = 1) -> dict[str, Any]:
    """Unpack the dataset, and run a process for each trial."""
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        files = unzip(folder / "dataset.zip", Path(place) / "files")

        def run(number: int) -> dict[str, float]:
            values = {
                "data": files,
                "weights": folder / "weights/resnet18.pth",
                "epochs": epochs,
                "batch-size": BATCHES[number % len(BATCHES)],
                "learning-rate": float(RATES[number % len(RATES)]) * 1e-3,
                "out": Path(place) / f"model{number}.pth",
            }
            options = [word for name, value in values.items() for word in (f"--{name}", str(value))]
            command = [sys.executable, "-m", "benchmarks.peers.course", *options, *more]
            environment = os.environ | ({"OMP_NUM_THREADS": str(max(1, CORES // at_once))} if at_once > 1 else {})
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
            told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
            return told

        with ThreadPoolExecutor(at_once) as pool:
            told = list(pool.map(run, range(trials)))
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "trials": [each["all"] for each in told], "imports": [each["import"] for each in told]}


def compare(
    folder: Path, trials: int, epochs: int, bar: float, repeats: int, *, at_once: int | None = None
) -> list[dict[str, Any]]:
    """Let the sides take turns, and say what each trial took. at_once: of the course's; None tries one and two."""
    ways = {COURSE: 1, TWO: AT_ONCE} if at_once is None else {TWO if at_once > 1 else COURSE: at_once}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in ("ours", *ways, CACHED)}
    tried = list(ways)
    for repeat in range(repeats):
        runs["ours"].append(tune_ours(folder, trials, epochs))
        for side in tried:
            runs[side].append(tune_course(folder, trials, epochs, at_once=ways[side]))
        tried = [min(ways, key=lambda side: runs[side][0]["seconds"])]  # only the faster way is repeated
        if not repeat:
            runs[CACHED].append(tune_course(folder, trials, epochs, "--cache-features", at_once=ways[tried[0]]))
        print({side: round(own[-1]["seconds"], 1) for side, own in runs.items()}, flush=True)
    seconds = {side: statistics.median(run["seconds"] for run in own) for side, own in runs.items()}
    details: dict[str, Any] = {f"{side}_s": spread(run["seconds"] for run in own) for side, own in runs.items()}
    details |= {f"{side}_trials_s": own[-1]["trials"] for side, own in runs.items()} | {"load": os.getloadavg()[0]}
    fastest = min(ways, key=lambda side: seconds[side])
    details |= {"at_once": ways[fastest], "imports_s": runs[fastest][-1]["imports"]}

    def row(side: str) -> dict[str, str]:
        return {"peer": side, "ours": f"{seconds['ours']:.1f} s", "theirs": f"{seconds[side]:.1f} s"}

    def over(side: str) -> float:
        return seconds[side] / seconds["ours"]

    what = f"{trials} trials of {epochs} epochs: seconds over ours"
    beside = [claim(what, over(side), "ratio", **row(side)) for side in (*ways, CACHED) if side != fastest]
    return [claim(what, over(fastest), "ratio", at_least=bar, **row(fastest), **details), *beside]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="repeat 4 x 2 alone, no result file")
    told = parser.parse_args(None if __name__ == "__main__" else [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "dataset.zip", COUNTS, (500, 375))
        write_weights(folder / "weights")
        claims = compare(folder, 4, 2, 6, 1 if told.quick else REPEATS)
        if told.quick:
            print(json.dumps(claims, indent=1))
            return
        claims += compare(folder, 8, 5, 20, 1, at_once=claims[0]["at_once"])
    write_result("tuning", claims, packages=["torch", "torchvision", "pillow", "optuna"])


if __name__ == "__main__":
    main()
