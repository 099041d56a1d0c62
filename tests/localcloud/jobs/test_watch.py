"""What SageMaker's Debugger and Profiler collect from a running job: tensors and system metrics, in S3 as it trains.

smdebug itself writes the tensors, in the job, and reads all of it back from what S3 holds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader
from smdebug.trials import create_trial

from localcloud.common.clock import SystemClock
from localcloud.common.transfers import download_prefix, list_objects
from localcloud.jobs.system_metrics import SystemSampler
from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, wait_until

TRAINING = """
import os, pathlib, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
os.environ["CHECKPOINT_CONFIG_FILE_PATH"] = "/dev/null/none"
import torch
from smdebug.pytorch import Hook
network, criterion = torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.nn.CrossEntropyLoss()
hook = Hook.create_from_json_file(str(base / "input/config/debughookconfig.json"))
hook.register_hook(network)
hook.register_loss(criterion)
def take_step():
    criterion(network(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
for _ in range(20):
    take_step()
limit = time.monotonic() + 60
while not (base / "go-on").exists() and time.monotonic() < limit:
    time.sleep(0.05)
for _ in range(10):
    take_step()
hook.close()
"""
ALL_OF_THE_FIRST_STEPS = 2 + 2 * 4  # claim and collections; events and index of four steps
SLEEP = "import time; time.sleep(1.2)"


def ask_for_tensors(local: LocalSageMaker, **own: Any) -> dict[str, Any]:
    collections = [{"CollectionName": name} for name in ("losses", "weights", "gradients")]
    config = {
        "S3OutputPath": f"s3://{local.bucket}/{name_job('tensors')}",
        "HookParameters": {"save_interval": "5"},
        "CollectionConfigurations": collections,
    }
    return {"DebugHookConfig": config | own}


def ask_for_profile(local: LocalSageMaker, **own: Any) -> dict[str, Any]:
    config = {"S3OutputPath": f"s3://{local.bucket}/{name_job('profile')}/", "ProfilingIntervalInMilliseconds": 100}
    return {"ProfilerConfig": config | own}


def list_names(local: LocalSageMaker, uri: str) -> list[str]:
    return [item["Key"] for item in list_objects(local.s3, uri)]


@pytest.mark.parametrize("folder", [{}, {"LocalPath": "/opt/ml/output/elsewhere"}])
def test_tensors_are_in_s3_while_the_job_trains(local: LocalSageMaker, folder: dict[str, str], tmp_path: Path) -> None:
    """They are whole files below S3OutputPath/JOB/debug-output/. create_trial reads a copy, and the rest later."""
    name = local.train(TRAINING, **(asked := ask_for_tensors(local, **folder)))
    uri = f"{asked['DebugHookConfig']['S3OutputPath']}/{name}/debug-output/"
    wait_until(lambda: len(list_names(local, uri)) == ALL_OF_THE_FIRST_STEPS, 60)
    assert local.describe(name)["SecondaryStatus"] == "Training"
    download_prefix(local.s3, uri, tmp_path / "early")
    early = create_trial(str(tmp_path / "early"))
    early.loaded_all_steps = True  # it would wait for the end of the job
    assert early.steps() == [0, 5, 10, 15]
    assert early.tensor("Sequential_0.weight").value(0).shape == (3, 4)
    (local.home / "jobs" / name / "go-on").touch()
    assert local.finish(name)["TrainingJobStatus"] == "Completed", local.log(name)
    download_prefix(local.s3, uri, tmp_path / "late")
    late = create_trial(str(tmp_path / "late"))
    assert late.steps() == [0, 5, 10, 15, 20, 25]
    assert late.tensor("CrossEntropyLoss_output_0").value(25) > 0
    assert late.loaded_all_steps
    assert not [key for key in list_names(local, uri) if key.endswith(".tmp")]


def test_system_metrics_are_sampled_from_outside(local: LocalSageMaker, tmp_path: Path) -> None:
    """They are below S3OutputPath/JOB/profiler-output/, at the requested interval, and smdebug reads them."""
    name = local.train(SLEEP, **(asked := ask_for_profile(local)))
    local.finish(name)
    uri = f"{asked['ProfilerConfig']['S3OutputPath']}{name}/profiler-output/"
    download_prefix(local.s3, uri, tmp_path)
    found = LocalSystemMetricsReader(str(tmp_path)).get_events(0, time.time() * 1e6)
    cores = {event.name for event in found if event.dimension == "CPUUtilization"}
    assert cores == {f"cpu{core}" for core in range(psutil.cpu_count())}
    assert {"MemoryUsedPercent", "IOPS", "ReceiveBytesPerSecond"} <= {event.name for event in found}
    assert {event.node_id for event in found} == {"algo-1"}
    assert all(0 <= event.value <= 100 for event in found if event.type in ("cpu", "memory"))
    times = sorted({event.timestamp for event in found})
    assert 8 <= len(times) <= 15
    assert not (local.home / "jobs" / name / "profiler").exists()


def test_nothing_is_taken_unless_it_is_asked_for(local: LocalSageMaker) -> None:
    """A disabled profiler samples nothing. A job without these members leaves only its own files."""
    disabled = local.train(SLEEP, ProfilerConfig={"DisableProfiler": True})
    plain = local.train(SLEEP)
    for name in (disabled, plain):
        local.finish(name)
        assert not (local.home / "jobs" / name / "profiler").exists()


def test_a_minute_is_written_when_it_is_over(tmp_path: Path) -> None:
    """Files are whole: the current minute's file is written with the last sample."""
    sampler = SystemSampler(tmp_path, 100, SystemClock())
    sampler.start()
    time.sleep(0.35)
    sampler.stop()
    files = sorted((tmp_path / "system/incremental").rglob("*"))
    names = [path.name for path in files if path.is_file()]
    assert names
    assert all(name.endswith(".algo-1.json") for name in names)
