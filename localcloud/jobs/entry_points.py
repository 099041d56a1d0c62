"""Decide what a training job's container would start: a program in script mode, or the request's own entry point.

A ContainerEntrypoint runs unchanged, with its ContainerArguments and only the platform's variables. The image's own
entry point, which would set script mode's variables, does not run. The SDK's ModelTrainer starts its `source_code` this
way: it uploads a bash script as the channel `sm_drivers`, and that script sets them.

There is no image, so there is no `/opt/ml`. Where the entry point, its arguments or that script name it, the job's
folder is put in its place. A user's own program finds its folders by its variables.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.common.store import Record
from localcloud.common.transfers import download_archive
from localcloud.jobs.directory import (
    TORCHRUN,
    JobDirectory,
    build_arguments,
    build_environment,
    decode_hyperparameters,
    list_hosts,
)
from localcloud.jobs.forkserver import Command, Launch, Script

DRIVERS = "sm_drivers"  # the channel that holds the SDK's own programs
INSIDE = "/opt/ml/"
# Processes of several hosts find each other on this machine, and are found by nobody else.
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
# The SDK's script does not quote paths.
UNQUOTED = re.compile(r"[\w@%+=:,./-]+")


class JobFailed(Exception):
    """The job ends Failed. The text is its FailureReason."""


def find_entry_point(job: Record) -> list[str]:
    """Return the request's own entry point with its arguments; empty for a program in script mode."""
    algorithm = job["AlgorithmSpecification"]
    entry = algorithm.get("ContainerEntrypoint", [])
    return [*entry, *algorithm.get("ContainerArguments", [])] if entry else []


def fetch_code(s3: Any, job: Record, directory: JobDirectory) -> str:
    """Put the job's code where it runs, and return its archive's SHA-256, or nothing where a channel holds the code.

    The channels must be there already. Raises TransferError or JobFailed.
    """
    if not find_entry_point(job):
        return download_archive(s3, decode_hyperparameters(job)["sagemaker_submit_directory"], directory.code)
    if not UNQUOTED.fullmatch(str(directory.base)):
        raise JobFailed(
            f"The local cloud runs no ContainerEntrypoint in the folder {str(directory.base)!r}, whose name a shell "
            "would take apart: start it with another LOCALCLOUD_HOME"
        )
    for path in sorted((directory.data / DRIVERS).rglob("*")):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(INSIDE.encode(), f"{directory.base}/".encode()))
    return ""


def plan_launch(
    job: Record, directory: JobDirectory, cores: int, inherited: Mapping[str, str], port: int = 0
) -> Launch:
    """Return what to start for the job on one of its hosts. Raises JobFailed if the program is not in the archive.

    port: where the processes of all hosts meet, if there are several.
    """
    env = build_environment(job, directory, cores, inherited)
    if words := find_entry_point(job):
        program, *argv = (word.replace(INSIDE, f"{directory.base}/") for word in words)
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [env.get("PATH")])])
        return Launch(Command(program), cwd=directory.base, log=directory.log, env=env, argv=argv)
    program = str(decode_hyperparameters(job)["sagemaker_program"])
    if not (directory.code / program).is_file():
        raise JobFailed(f"AlgorithmError: {program!r} (sagemaker_program) is not in the code's archive, exit code: 1")
    if decode_hyperparameters(job).get(TORCHRUN):
        env = {**env, **describe_process(job, directory, program, port)}
    entry, first = (Script(program), []) if program.endswith(".py") else (Command("/bin/sh"), [program])
    argv = [*first, *build_arguments(job)]
    return Launch(entry, cwd=directory.code, log=directory.log, env=env, argv=argv)


def describe_process(job: Record, directory: JobDirectory, program: str, port: int) -> dict[str, str]:
    """Return what torchrun, which the toolkit starts on each host, tells its process: one a host, without GPUs.

    torchrun itself is left out: it would put its process into a session of its own, where the cloud could not end it.
    All hosts are this machine, so that its own address stands for the first one's name.
    """
    if not program.endswith(".py"):
        raise JobFailed("AlgorithmError: Unsupported entry point type for torch_distributed, exit code: 1")
    hosts = list_hosts(job)
    rank, size = str(hosts.index(directory.host)), str(len(hosts))
    return {
        **LOOPBACK,
        **dict.fromkeys(("RANK", "GROUP_RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"), size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ROLE_NAME": "default",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # there is no agent: the first process holds the store
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }


def find_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def tell_start(job: Record, cores: int) -> str:
    """Return the first line of a job's log: what runs, on how many cores, and the variable that holds this number."""
    entry = find_entry_point(job)
    program = entry[0] if entry else decode_hyperparameters(job)["sagemaker_program"]
    variable = "OMP_NUM_THREADS" if entry else "SM_NUM_CPUS"
    return f"local cloud: {program} runs on {cores} core(s), {variable}={cores}"
