"""Tests of `training/` under AWS's own script-mode toolkit: it gives what the same job gives in the local cloud.

Both use the same request, source tarball, dataset, S3 and number of threads; only what turns the request into a
running program differs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torchvision import models

from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.requests.jobs import build_training_request
from localcloud.jobs.directory import JobDirectory, list_hosts
from localcloud.jobs.entry_points import LOOPBACK, describe_process, find_port
from tests.chalicelib.requests.test_jobs import make_run
from tests.contracts.toolkits.environments import build_environment
from tests.fakes.world import SETTINGS
from tests.localcloud.hosting import KEYS
from tests.localcloud.sagemaker_support import LocalSageMaker, local_sagemaker
from tests.training.tiny import shapes_zip

ROOT = Path(__file__).resolve().parents[3]
JOB = "whippet-contract-0123abcd-train"
THREADS = os.cpu_count() or 1
HYPERPARAMETERS = {
    "run_id": "whippet-contract-0123abcd",
    "epochs": "2",
    "image_size": "16",
    "batch_size": '"16"',
    "learning_rate": "1.3",
    "fine_tune": '"all"',
    "pretrained": "none",
    "seed": "7",
    "_tuning_objective_metric": "valid:score",
}
# Members that depend on time rather than on the training.
TIMES = ("seconds", "images_per_second", "time", "created_at")


@dataclass(frozen=True)
class Result:
    """What one way of running the job produced."""

    log: str
    model: Path
    records: Path

    def read(self, name: str) -> Any:
        """Read evaluation.json, metrics.jsonl or manifest.json without its times."""
        path = next(folder / name for folder in (self.records, self.model) if (folder / name).exists())
        lines = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
        return [drop_times(json.loads(line)) for line in lines]

    def find_numbers(self) -> dict[str, list[str]]:
        """Return the printed values of each metric, in order."""
        printed = dict[str, list[str]]()
        for name, value in re.findall(r"((?:train|valid|test):\w+)=(\S+)", self.log):
            printed.setdefault(name, []).append(value)
        return printed


def drop_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: drop_times(item) for key, item in value.items() if key not in TIMES}
    return [drop_times(item) for item in value] if isinstance(value, list) else value


def pack_source() -> bytes:
    """Build the published tarball: training's files, and inference's in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted((ROOT / "training").rglob("*.py")):
            archive.add(path, arcname=path.relative_to(ROOT / "training").as_posix())
        for path in sorted((ROOT / "inference").glob("*.py")):
            archive.add(path, arcname=f"inference/{path.name}")
    return buffer.getvalue()


def make_request(code: str, data: str, checkpoints: str) -> dict[str, Any]:
    """Build the CreateTrainingJob request of both."""
    source = {"S3DataType": "S3Prefix", "S3Uri": data, "S3DataDistributionType": "FullyReplicated"}
    return {
        "TrainingJobName": JOB,
        "HyperParameters": HYPERPARAMETERS
        | {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": json.dumps(code),
            "sagemaker_region": '"us-east-1"',
            "sagemaker_container_log_level": "20",
            "sagemaker_job_name": json.dumps(JOB),
        },
        "AlgorithmSpecification": {"TrainingImage": "pytorch-training", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/whippet",
        "InputDataConfig": [{"ChannelName": "dataset", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": "s3://training/out"},
        "CheckpointConfig": {"S3Uri": checkpoints},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """Start a local cloud whose jobs get as many cores as AWS's toolkit finds on this machine."""
    with local_sagemaker(tmp_path_factory.mktemp("contract"), cores=THREADS) as running:
        yield running


@pytest.fixture(scope="module")
def request_of_both(local: LocalSageMaker) -> dict[str, Any]:
    local.put("runs/r/input/dataset.zip", shapes_zip({"train": 12, "valid": 6, "test": 6}))
    code = local.put("code/sourcedir.tar.gz", pack_source())
    return make_request(code, "s3://training/runs/r/input/", "s3://training/runs/r/jobs/")


@pytest.fixture(scope="module")
def here(local: LocalSageMaker, request_of_both: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Run the job in the local cloud."""
    local.sagemaker.create_training_job(**request_of_both)
    described = local.finish(JOB, seconds=90)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    folder = tmp_path_factory.mktemp("here")
    artifact = local.read(described["ModelArtifacts"]["S3ModelArtifacts"])
    with tarfile.open(fileobj=io.BytesIO(artifact)) as archive:
        archive.extractall(folder / "model", filter="data")
    (folder / "records").mkdir()
    for name in ("evaluation.json", "metrics.jsonl"):
        (folder / "records" / name).write_bytes(local.read(f"s3://training/runs/r/jobs/{JOB}/{name}"))
    return Result(local.log(JOB), folder / "model", folder / "records")


def write_base(base: Path, request: dict[str, Any], dataset: bytes) -> None:
    """Write the /opt/ml tree as SageMaker prepares it for a container."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    for folder in ("input/data/dataset", "model", "output/data", "code", "checkpoints"):
        (base / folder).mkdir(parents=True)
    host = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    (config / "hyperparameters.json").write_text(json.dumps(request["HyperParameters"]))
    (config / "inputdataconfig.json").write_text(json.dumps({"dataset": channel}))
    (config / "resourceconfig.json").write_text(json.dumps(host))
    (base / "input/data/dataset/dataset.zip").write_bytes(dataset)


def build_variables(programs: Path, base: Path, url: str) -> dict[str, str]:
    """Return the environment that a container gives to AWS's `train` program."""
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(base),
        "SAGEMAKER_BASE_DIR": str(base),
        "TRAINING_JOB_NAME": JOB,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEYS.access_key_id,
        "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "AWS_ENDPOINT_URL": url,
        "SM_STUDIO_LOCAL_MODE": "true",  # else it looks for the host algo-1 in DNS, for up to 15 minutes
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        "OMP_NUM_THREADS": str(THREADS),
    }


def run_toolkit(base: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run AWS's own `train` program on a prepared tree, as its image does."""
    programs = build_environment("training")
    environment = build_variables(programs, base, url)
    command = [str(programs / "train")]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110, check=False)


@pytest.fixture(scope="module")
def base(local: LocalSageMaker, request_of_both: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("there") / "ml"
    write_base(folder, request_of_both, local.read("s3://training/runs/r/input/dataset.zip"))
    return folder


@pytest.fixture(scope="module")
def there(local: LocalSageMaker, base: Path) -> Result:
    """Run the job under AWS's toolkit."""
    ended = run_toolkit(base, local.url)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return Result(ended.stdout, base / "model", base / "checkpoints" / JOB)


def test_the_weights_are_the_same(here: Result, there: Result) -> None:
    """Every tensor of the state dictionary is bit-identical."""
    ours, theirs = (torch.load(result.model / "model.pth", weights_only=True) for result in (here, there))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation.json", "manifest.json"])
def test_what_the_job_records_is_the_same(here: Result, there: Result, name: str) -> None:
    """The metrics of every epoch, the evaluation and the manifest differ only in times."""
    assert there.read(name) == here.read(name)


def test_the_printed_metrics_are_the_same(here: Result, there: Result) -> None:
    """The toolkit passes whole lines on, so that the metric regexes find the same values.

    The second epoch's line is left out where it is due within 1.1 s of the first one's, which depends on the machine.
    """
    ours, theirs = here.find_numbers(), there.find_numbers()
    assert "valid:score" in ours
    assert ours.keys() == theirs.keys()
    judged = [name for name in ours if not name.startswith("train:")]  # the last line of all repeats these
    assert [ours[name][-1] for name in judged] == [theirs[name][-1] for name in judged]
    assert all(set(ours[name]) <= set(theirs[name]) or set(theirs[name]) <= set(ours[name]) for name in ours)


def test_the_artifact_holds_the_code_that_serves_it(there: Result) -> None:
    """`code/` reaches the model directory through AWS's toolkit."""
    code = {path.name for path in (there.model / "code").glob("*.py")}
    assert code == {path.name for path in (ROOT / "inference").glob("*.py")}


def test_a_failure_is_a_readable_sentence(local: LocalSageMaker, base: Path, there: Result) -> None:
    """With an unreadable dataset the toolkit exits with 1, and output/failure holds the program's own message."""
    broken = base.parent / "broken"
    shutil.copytree(base / "input", broken / "input")
    for folder in ("model", "output/data", "code", "checkpoints"):
        (broken / folder).mkdir(parents=True)
    (broken / "input/data/dataset/dataset.zip").write_bytes(b"no zip")
    ended = run_toolkit(broken, local.url)
    assert ended.returncode == 1
    assert "dataset.zip" in (broken / "output" / "failure").read_text()


def test_every_metric_that_the_control_plane_asks_for_is_in_the_log(there: Result) -> None:
    """Each definition's regex finds a value in what AWS's toolkit prints; the last one is of the best epoch."""
    definitions = build_training_request(make_run(), resolve_recipe({}), SETTINGS, {})["AlgorithmSpecification"]
    found = {each["Name"]: re.findall(each["Regex"], there.log) for each in definitions["MetricDefinitions"]}
    assert all(found.values())
    assert [found[name][-1] for name in ("train:images", "train:classes", "valid:images")] == ["36", "3", "18"]
    [evaluation] = there.read("evaluation.json")
    for name in ("value", "standard_error"):
        metric = "valid:score" if name == "value" else f"valid:{name}"
        assert float(found[metric][-1]) == pytest.approx(evaluation["objective"][name], abs=1e-6)


# What AWS's images start: a shell with job control, that waits for its child and forwards nothing. As process 1 of a
# container it also outlives a SIGTERM, which the trap stands for here.
PROCESS_1 = "trap : TERM; train & wait; wait"


@pytest.fixture
def container(local: LocalSageMaker, base: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a training that would take very long, under AWS's toolkit, whose parent is a shell; kill what is left."""
    folder = tmp_path / "ml"
    request = json.loads((base / "input/config/hyperparameters.json").read_text())
    long = {"architecture": "squeezenet1_1", "image_size": "32", "epochs": "100000"}
    write_base(folder, {"HyperParameters": request | long}, (base / "input/data/dataset/dataset.zip").read_bytes())
    programs = build_environment("training")
    with (tmp_path / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "-m", "-c", PROCESS_1],
            env=build_variables(programs, folder, local.url),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield shell, folder
    kill_all(shell)


def kill_all(shell: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Kill a shell and all its descendants at once, as the end of a container does. Return the descendants."""
    found = psutil.Process(shell.pid).children(recursive=True) if shell.poll() is None else []
    for process in [*found, shell]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, 10)
    shell.wait(10)
    return found


def count_epochs(records: Path) -> int:
    path = records / "metrics.jsonl"
    return path.read_text().count('"epoch": ') if path.exists() else 0


def wait_until(condition: Callable[[], bool], seconds: float = 100) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stop_that_reaches_only_the_shell_loses_nothing(container: tuple[subprocess.Popen[bytes], Path]) -> None:
    """The program trains on after process 1 got SIGTERM; after SIGKILL its model, manifest and evaluation are there."""
    shell, folder = container
    records = folder / "checkpoints" / JOB
    wait_until((records / "evaluation.json").exists)
    shell.terminate()
    epochs = count_epochs(records)
    wait_until(lambda: count_epochs(records) > epochs + 2)
    assert shell.poll() is None
    assert len(kill_all(shell)) >= 2
    result = Result("", folder / "model", records)
    [manifest], [evaluation] = result.read("manifest.json"), result.read("evaluation.json")
    network = models.get_model(manifest["architecture"], num_classes=len(manifest["classes"]))
    network.load_state_dict(torch.load(result.model / "model.pth", weights_only=True))
    assert {path.name for path in (result.model / "code").glob("*.py")}
    assert manifest["classes"] == evaluation["classes"]
    assert not evaluation["finished"]
    assert manifest["metrics"]["valid"]["score"] == evaluation["objective"]["value"]


# What AWS's toolkit starts on a host: torchrun, whose process says what it was told.
LAUNCH = """
import json, subprocess, sys
from sagemaker_training import torch_distributed
hosts = ["algo-1", "algo-2"]
about = ("tell.py", [], {}, 1, "127.0.0.1", hosts, sys.argv[1], "lo")
torch_distributed.MASTER_PORT = sys.argv[2]
words = torch_distributed.TorchDistributedRunner(*about)._create_command()
assert words[0] == "torchrun"
sys.exit(subprocess.call([sys.argv[3], "-m", "torch.distributed.run", *words[1:]], cwd=sys.argv[4]))
"""
TELL = "import json, os; print(json.dumps(dict(os.environ)))"


def test_processes_are_told_what_torchrun_tells_them(tmp_path: Path) -> None:
    """On both hosts, by the variables that torchrun sets when AWS's toolkit starts it; but for who holds the store."""
    python, port = str(build_environment("training") / "python"), find_port()
    (tmp_path / "code").mkdir()
    (tmp_path / "code/tell.py").write_text(TELL)
    environment = {"SAGEMAKER_BASE_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    job = {
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        "HyperParameters": {"sagemaker_torch_distributed_enabled": "true"},
    }
    hosts = list_hosts(job)
    started = [
        subprocess.Popen(
            [python, "-c", LAUNCH, host, str(port), sys.executable, str(tmp_path / "code")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for host in hosts
    ]
    for host, process in zip(hosts, started, strict=True):
        output, _ = process.communicate(timeout=100)
        [told] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        ours = describe_process(job, JobDirectory(tmp_path, host), "tell.py", port)
        assert {*ours} - {*told} == {*LOOPBACK}
        assert {name for name in ours.keys() & told if ours[name] != told[name]} == {"TORCHELASTIC_USE_AGENT_STORE"}
        kinds = ("RANK", "WORLD_SIZE", "MASTER", "TORCHELASTIC")
        agents = {"TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_SIGNALS_TO_HANDLE"}  # between torchrun and its process
        assert {name for name in told if any(kind in name for kind in kinds)} - {*ours} <= agents
