"""Build a training job's `/opt/ml` tree in its own folder, and the environment of SageMaker's script mode.

    BASE/input/config/{hyperparameters,inputdataconfig,resourceconfig,debughookconfig,profilerconfig}.json
    BASE/input/data/CHANNEL/
    BASE/model/    BASE/output/{data/,intermediate/,failure}    BASE/checkpoints/    BASE/code/    BASE/tmp/

Variables and command line are those of AWS's toolkit (`sagemaker-training`, environment.py and mapping.py).
SAGEMAKER_BASE_DIR tells a program where its `/opt/ml` is; the toolkit uses the same name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.common.store import Record

HOST = "algo-1"
HOSTS = "hosts"  # the folder of the other hosts' trees
TORCHRUN = "sagemaker_torch_distributed_enabled"  # the hyperparameter for which the toolkit starts torchrun
GROUP = "homogeneousCluster"
DEFAULT_CHECKPOINTS = "/opt/ml/checkpoints"
MEMORY = ".mirror.json"  # ends the name of the file beside a mirrored folder that says what S3 has of it
# Hyperparameters that only the toolkit reads. Any other that begins with `sagemaker_` belongs to the framework.
OWN_PARAMETERS = (
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_container_log_level",
    "sagemaker_job_name",
    "sagemaker_region",
    "sagemaker_s3_output",
    "default_user_module_name",
)


@dataclass(frozen=True)
class JobDirectory:
    """The paths of a job's tree on one of its hosts."""

    base: Path
    host: str = HOST

    @property
    def config(self) -> Path:
        return self.base / "input" / "config"

    @property
    def data(self) -> Path:
        return self.base / "input" / "data"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def output_data(self) -> Path:
        return self.base / "output" / "data"

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    @property
    def code(self) -> Path:
        return self.base / "code"

    @property
    def log(self) -> Path:
        return self.base / "log.txt"

    @property
    def failure(self) -> Path:
        return self.base / "output" / "failure"

    @property
    def exit_mark(self) -> Path:
        """Return the file that marks the program's own end: after a kill the next cloud only uploads."""
        return self.base / "exit.json"

    @property
    def log_mark(self) -> Path:
        """Return the file that says how much of the log was read: the next cloud reads on from there."""
        return self.base / "log.offset"

    def of_host(self, host: str) -> JobDirectory:
        """Return the tree of one of the job's hosts."""
        return self if host == self.host else JobDirectory(self.base / HOSTS / host, host)

    def prepare(self, job: Record, cores: int) -> None:
        """Recreate the tree, except the log and the checkpoints, and write the configuration files."""
        for path in (self.data, self.model, self.output, self.code, self.base / "tmp"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        self.output_data.mkdir()
        (self.output / "intermediate").mkdir()
        self.config.mkdir(parents=True, exist_ok=True)
        contents = {
            "hyperparameters": job.get("HyperParameters", {}),
            "inputdataconfig": describe_channels(job),
            "resourceconfig": describe_resources(job, cores, self.host),
            **describe_debugging(job, self.base),
        }
        for name, content in contents.items():
            (self.config / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

    def clear(self) -> None:
        """Delete everything that another machine would not have. The log stays: on AWS it is not on the machine."""
        for path in self.base.iterdir():
            if path.is_dir() and path.name != HOSTS:
                shutil.rmtree(path, ignore_errors=True)

    def discard(self) -> None:
        """Delete what an ended job has uploaded to S3 or downloaded from it. Log, configuration and failure stay."""
        for path in (self.data, self.model, self.checkpoints, self.code, self.base / "tmp"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (*self.base.glob(f"*{MEMORY}"), *self.base.glob("tmp*.tar.gz")):  # a kill may leave an archive
            path.unlink()


def describe_channels(job: Record) -> dict[str, dict[str, str]]:
    """Return the content of inputdataconfig.json."""
    channels = {}
    for channel in job.get("InputDataConfig", []):
        source = channel["DataSource"]["S3DataSource"]
        channels[channel["ChannelName"]] = {
            "TrainingInputMode": channel.get("InputMode", job["AlgorithmSpecification"]["TrainingInputMode"]),
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": "None",
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
        }
    return channels


def list_hosts(job: Record) -> list[str]:
    return [f"algo-{number}" for number in range(1, job.get("ResourceConfig", {}).get("InstanceCount", 1) + 1)]


def describe_resources(job: Record, cores: int, host: str) -> dict[str, Any]:
    """Return the content of resourceconfig.json. `local_cores` is our own member: the cores granted here."""
    kind, hosts = job["ResourceConfig"]["InstanceType"], list_hosts(job)
    return {
        "current_host": host,
        "current_instance_type": kind,
        "current_group_name": GROUP,
        "hosts": hosts,
        "instance_groups": [{"instance_group_name": GROUP, "instance_type": kind, "hosts": hosts}],
        "network_interface_name": "eth0",
        "local_cores": cores,
    }


def describe_debugging(job: Record, base: Path) -> dict[str, Any]:
    """Return the contents of debughookconfig.json and profilerconfig.json, where the request asks for them.

    The hook's folder is the one below `base` that stands for its path below /opt/ml.
    """
    found: dict[str, Any] = {}
    if tensors := place_tensors(job, base):
        found["debughookconfig"] = job["DebugHookConfig"] | {"LocalPath": str(tensors)}
    profiler = job.get("ProfilerConfig", {"DisableProfiler": True})
    if not profiler.get("DisableProfiler", False):
        found["profilerconfig"] = profiler
    return found


def place_tensors(job: Record, base: Path) -> Path | None:
    """Return the folder of the debugger's tensors; None where the request has no hook."""
    hook = job.get("DebugHookConfig")
    return base / Path(hook["LocalPath"]).relative_to("/opt/ml") if hook else None


def decode_hyperparameters(job: Record) -> dict[str, Any]:
    """Decode the hyperparameters as the toolkit does: each string as JSON, or unchanged where it is not JSON."""
    return {name: _decode(value) for name, value in job.get("HyperParameters", {}).items()}


def build_arguments(job: Record) -> list[str]:
    """Return the program's command line: `--name value` for every hyperparameter except SageMaker's own."""
    arguments = []
    for name, value in sorted(_user_parameters(job).items()):
        arguments += [f"--{name}" if len(name) > 1 else f"-{name}", _format_argument(value)]
    return arguments


def build_environment(job: Record, directory: JobDirectory, cores: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the program's whole environment: the platform's variables, the toolkit's SM_*, the request's Environment.

    A request's own entry point runs without the toolkit, so it gets no SM_*.
    """
    has_toolkit = not job["AlgorithmSpecification"].get("ContainerEntrypoint")
    return {
        **inherited,
        **_platform_variables(job, directory, cores),
        **(_toolkit_variables(job, directory, cores) if has_toolkit else {}),
        **job.get("Environment", {}),
    }


def _platform_variables(job: Record, directory: JobDirectory, cores: int) -> dict[str, str]:
    region = job["TrainingJobArn"].split(":")[3]
    return {
        "SAGEMAKER_BASE_DIR": str(directory.base),
        "TRAINING_JOB_NAME": job["TrainingJobName"],
        "TRAINING_JOB_ARN": job["TrainingJobArn"],
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "SAGEMAKER_REGION": region,
        "SAGEMAKER_JOB_NAME": str(decode_hyperparameters(job).get("sagemaker_job_name", job["TrainingJobName"])),
        "CURRENT_HOST": directory.host,
        "PYTHONPATH": str(directory.code),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(directory.base / "tmp"),
        "OMP_NUM_THREADS": str(cores),
    }


def _toolkit_variables(job: Record, directory: JobDirectory, cores: int) -> dict[str, str]:
    values = _describe_environment(job, directory, cores)
    names = {
        **{name: value for name, value in values.items() if name not in _ONLY_IN_TRAINING_ENV},
        "hps": values["hyperparameters"],
        "framework_params": values["additional_framework_parameters"],
        "channels": sorted(values["channel_input_dirs"]),
        "module_name": f"{values['module_name']}",
        "user_args": build_arguments(job),
        "training_env": values,
        **{f"channel_{name}": path for name, path in values["channel_input_dirs"].items()},
        **{f"hp_{name}": value for name, value in values["hyperparameters"].items()},
    }
    return {f"SM_{name.upper()}": _format_variable(value) for name, value in names.items()}


_ONLY_IN_TRAINING_ENV = (
    "additional_framework_parameters",
    "channel_input_dirs",
    "distribution_hosts",
    "hyperparameters",
    "is_master",
    "is_modelparallel_enabled",
    "is_smddpmprun_installed",
    "is_smddprun_installed",
    "job_name",
    "master_hostname",
)


def _describe_environment(job: Record, directory: JobDirectory, cores: int) -> dict[str, Any]:
    decoded, resources = decode_hyperparameters(job), describe_resources(job, cores, directory.host)
    hosts = list_hosts(job)
    program = str(decoded.get("sagemaker_program", ""))
    framework = {k: v for k, v in decoded.items() if k.startswith("sagemaker_") and k not in OWN_PARAMETERS}
    return {
        "additional_framework_parameters": framework,
        "channel_input_dirs": {name: str(directory.data / name) for name in describe_channels(job)},
        "current_host": directory.host,
        "current_instance_group": GROUP,
        "current_instance_group_hosts": hosts,
        "current_instance_type": resources["current_instance_type"],
        "distribution_hosts": hosts,
        "distribution_instance_groups": [GROUP] if decoded.get(TORCHRUN) else [],
        "framework_module": "sagemaker_pytorch_container.training:main",
        "hosts": hosts,
        "hyperparameters": _user_parameters(job),
        "input_config_dir": str(directory.config),
        "input_data_config": describe_channels(job),
        "input_dir": str(directory.base / "input"),
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: resources["instance_groups"][0]},
        "is_hetero": False,
        "is_master": directory.host == HOST,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": job["TrainingJobName"],
        "log_level": decoded.get("sagemaker_container_log_level", 20),
        "master_hostname": HOST,
        "model_dir": str(directory.model),
        "module_dir": str(decoded.get("sagemaker_submit_directory", directory.code)),
        "module_name": program.removesuffix(".py"),
        "network_interface_name": "eth0",
        "num_cpus": cores,
        "num_gpus": 0,
        "num_neurons": 0,
        "output_data_dir": str(directory.output_data),
        "output_dir": str(directory.output),
        "output_intermediate_dir": str(directory.output / "intermediate"),
        "resource_config": resources,
        "user_entry_point": program,
    }


def _user_parameters(job: Record) -> dict[str, Any]:
    decoded = decode_hyperparameters(job)
    return {k: v for k, v in decoded.items() if not k.startswith("sagemaker_") and k not in OWN_PARAMETERS}


def _decode(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _format_argument(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return "" if value is None else str(value)


def _format_variable(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
