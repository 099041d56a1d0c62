"""Measure the Lambda: its archive, a cold import of the app from it, and the peak memory of each handler.

The handlers run one call each, in a fresh interpreter with the archive's content, against a local cloud with a deployed
model and a dataset of 100,000 images. The peer of the import is the same app importing the SageMaker SDK beside it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.results import claim, write_result
from infrastructure.packaging.build import PROJECT, build_package
from tests.end_to_end.conftest import upload_small_dataset
from tests.support.layouts import picture
from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.support.pictures import draw_test_picture

ROUNDS, SLOW_ROUNDS = 9, 3
IMAGES, CLASSES = 100_000, 133
OTHER_STAGE = "other"
LARGEST_PICTURE = 4_000_000
SAMPLES = PROJECT / "events" / "samples" / "valid"
SDK = "import sagemaker.core.resources, sagemaker.train.model_trainer"
CALL = """
import json, sys
order = json.load(sys.stdin)
out, sys.stdout = sys.stdout, sys.stderr  # the log's place is taken at import
if order["path"]:
    sys.path = [order["path"], *(each for each in sys.path if "site-packages" not in each)]
import app
class Context:
    function_name, memory_limit_in_mb, aws_request_id = "measured", "1024", "0"
    invoked_function_arn, log_stream_name = "arn:aws:lambda:us-east-1:123456789012:function:measured", ""
    @staticmethod
    def get_remaining_time_in_millis():
        return 300_000
answer = getattr(app, order["handler"])(order["event"], Context())
status = dict(line.split(":") for line in open("/proc/self/status"))
print(json.dumps({"answer": answer, "megabytes": int(status["VmHWM"].split()[0]) / 1024}), file=out)
"""


def unpack_package(folder: Path) -> tuple[Path, float]:
    """Unpack the archive into a folder. Returns the folder and the archive's size in MB."""
    package = build_package(PROJECT, "dev", folder / "dist")
    with zipfile.ZipFile(package.code) as archive:
        archive.extractall(folder / "task")
    return folder / "task", package.code.stat().st_size / 1e6


def time_import(statement: str, home: Path, rounds: int) -> float:
    """Return the median seconds of a fresh interpreter that runs a statement with a folder first on its path."""
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": str(home)}
    samples = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True, env=environment, cwd=home, capture_output=True)
        samples.append(time.perf_counter() - start)
    return statistics.median(samples[1:])


def build_large_zip() -> bytes:
    """Pack 100,000 images in 133 classes, and a name that escapes: read completely, and rejected before any job."""
    packed, bodies = io.BytesIO(), [picture("jpg", seed) for seed in range(20)]
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(IMAGES):
            name = f"dogs/train/{number * CLASSES // IMAGES:03d}.Some_breed/Some_breed_{number:06d}.jpg"
            archive.writestr(name, bodies[number % len(bodies)])
        archive.writestr("../escaped.jpg", bodies[0])
    return packed.getvalue()


def read_environment(cloud: LocalCloud, run: dict[str, Any]) -> dict[str, str]:
    """Return the environment that the template gives the functions, read back from a run that they launched."""
    job = cloud.sagemaker.describe_training_job(TrainingJobName=f"{run['run_id']}-train")
    model = cloud.sagemaker.describe_model(ModelName=run["run_id"])
    document = cloud.s3.get_object(Bucket=cloud.bucket, Key=f"runs/{run['run_id']}/run.json")
    training, serving = job["AlgorithmSpecification"]["TrainingImage"], model["PrimaryContainer"]["Image"]
    images = {"TRAINING_IMAGE_CPU": training, "TRAINING_IMAGE_GPU": training}
    images |= {"INFERENCE_IMAGE_CPU": serving, "INFERENCE_IMAGE_GPU": serving}
    return {
        **{name: value for name, value in cloud.variables.items() if name.startswith("AWS_") or name == "BUCKET"},
        **images,
        "STAGE": "local",
        "EXECUTION_ROLE_ARN": job["RoleArn"],
        "TOKENS_SECRET_ID": "whippet-local-tokens",
        "CODE_URI": json.load(document["Body"])["code_uri"],
        "MONTHLY_CAP_USD": "0",
        "PATH": os.environ["PATH"],
    }


def load_sample(kind: str, name: str) -> dict[str, Any]:
    return dict(json.loads((SAMPLES / kind / f"{name}.json").read_text()))


def build_request(cloud: LocalCloud, method: str, path: str, body: bytes = b"", **names: str) -> dict[str, Any]:
    """Build a request as API Gateway passes it to the function."""
    event = load_sample("api-gateway-request", "predict")
    template = path.format(**{name: f"{{{name}}}" for name in names})
    event["requestContext"] |= {"resourcePath": template, "httpMethod": method, "path": path.format(**names)}
    headers = {"authorization": f"Bearer {cloud.variables['API_TOKEN']}"}
    headers |= {"content-type": "image/png"} if body else {}
    return event | {
        "resource": template,
        "path": path.format(**names),
        "httpMethod": method,
        "pathParameters": names or None,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def build_calls(cloud: LocalCloud, run: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Build each handler's heaviest call: (name of the handler, event)."""
    upload = load_sample("s3-object-created", "put-object")
    upload["detail"]["bucket"]["name"], upload["detail"]["object"]["key"] = cloud.bucket, "datasets/large.zip"
    tuning = load_sample("sagemaker-tuning-job-state-change", "completed")
    tuning["detail"]["HyperParameterTuningJobName"] = run["run_id"]
    training = load_sample("sagemaker-training-job-state-change", "completed")
    training["detail"]["TrainingJobName"] = f"{run['run_id']}-train"
    endpoint = load_sample("sagemaker-endpoint-state-change", "in-service")
    endpoint["detail"]["EndpointName"] = cloud.sagemaker.list_endpoints()["Endpoints"][0]["EndpointName"]
    picture_body = draw_test_picture("red")
    largest = picture_body + bytes(LARGEST_PICTURE - len(picture_body))
    return {
        "on_dataset_uploaded": ("on_dataset_uploaded", upload),
        "on_tuning_job_changed": ("on_tuning_job_changed", tuning),
        "on_training_job_changed": ("on_training_job_changed", training),
        "on_endpoint_changed": ("on_endpoint_changed", endpoint),
        "sweep": ("sweep", load_sample("scheduled-event", "sweep")),
        "POST predict, 4 MB": ("app", build_request(cloud, "POST", "/models/{name}/predict", largest, name="small")),
        "GET run": ("app", build_request(cloud, "GET", "/runs/{run_id}", run_id=run["run_id"])),
        "GET run's jobs": ("app", build_request(cloud, "GET", "/runs/{run_id}/jobs", run_id=run["run_id"])),
        "GET page": ("app", build_request(cloud, "GET", "/web/{name}", name="app.js")),
        "DELETE model": ("app", build_request(cloud, "DELETE", "/models/{name}", name="small")),
    }


def call(handler: str, event: dict[str, Any], task: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Make one call in a fresh interpreter. Returns its answer and peak memory in MB; exits if the call fails."""
    order = json.dumps({"handler": handler, "event": event, "path": str(task)})
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(command, input=order, env=environment, cwd=task, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{handler} failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout)
    status = (told["answer"] or {}).get("statusCode", 200)
    if status >= 400:
        raise SystemExit(f"{handler} answered {status}: {told['answer']['body']}")
    return told


def measure_memory(task: Path, folder: Path) -> dict[str, float]:
    """Return the peak memory of every call, in MB."""
    with run_local_cloud(folder / "state") as cloud:
        upload_small_dataset(cloud, "small", trials=1, parallel_trials=1)
        run = cloud.wait_for_status("small", "deployed", "failed")
        environment = read_environment(cloud, run)
        calls = build_calls(cloud, run)
        cloud.upload("large.zip", build_large_zip())
        look = calls.pop("on_dataset_uploaded")
        alone = call(*look, task, environment | {"STAGE": OTHER_STAGE})  # the cloud's own function is not quicker there
        check_inspected(cloud)
        peaks = {name: call(*each, task, environment)["megabytes"] for name, each in calls.items()}
    return {"on_dataset_uploaded": alone["megabytes"], **peaks}


def check_inspected(cloud: LocalCloud) -> None:
    """Exit if the measured call did not read the large dataset."""
    keys = cloud.s3.list_objects_v2(Bucket=cloud.bucket, Prefix=f"runs/whippet-{OTHER_STAGE}-large").get("Contents", [])
    if not any(each["Key"].endswith("/dataset.json") for each in keys):
        raise SystemExit("on_dataset_uploaded did not look into the dataset")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        task, megabytes = unpack_package(Path(name))
        nothing = time_import("pass", task, ROUNDS)
        packed = time_import("import app", task, ROUNDS) - nothing
        own = time_import("import app", PROJECT, ROUNDS) - nothing
        peer = time_import(f"import app; {SDK}", PROJECT, SLOW_ROUNDS) - nothing
        peaks = measure_memory(task, Path(name))
    largest = max(peaks, key=lambda each: peaks[each])
    write_result(
        "lambda_function",
        [
            claim("the Lambda's archive", megabytes, "MB", at_most=20),
            claim("import app from the archive, in a fresh interpreter", packed, "s", at_most=0.4),
            claim("import app where the SageMaker SDK is installed", own, "s", at_most=0.4),
            claim("the same app importing the SageMaker SDK", peer, "s"),
            claim("import app over the same with the SDK", own / peer, "ratio", at_most=0.1),
            claim(f"peak memory of any handler ({largest})", peaks[largest], "MB", at_most=200, by_call=peaks),
        ],
        packages=["chalice", "aws-lambda-powertools", "boto3", "sagemaker"],
    )


if __name__ == "__main__":
    main()
