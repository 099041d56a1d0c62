"""What a training job's container would start: a program in script mode, or the request's own entry point.

A ContainerEntrypoint is run as it is, with its ContainerArguments, under the platform's variables alone: without the
image's own entry point nobody makes script mode's. The SDK's ModelTrainer starts its `source_code` so, by a script of
bash that it uploads as the channel `sm_drivers`, which then makes them.

No image means no `/opt/ml`: where the entry point, its arguments and that script say it, they are given the job's
folder. A program of one's own finds its folders by its variables.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.common.store import Record
from localcloud.common.transfers import download_archive
from localcloud.jobs.directory import JobDirectory, build_arguments, build_environment, decode_hyperparameters
from localcloud.jobs.forkserver import Command, Launch, Script

DRIVERS = "sm_drivers"  # the channel of the SDK's own programs
INSIDE = "/opt/ml/"
# The SDK's script quotes no path.
UNQUOTED = re.compile(r"[\w@%+=:,./-]+")


class JobFailed(Exception):
    """The job ends Failed, and this is its FailureReason."""


def find_entry_point(job: Record) -> list[str]:
    """The request's own entry point with its arguments; empty for a program in script mode."""
    algorithm = job["AlgorithmSpecification"]
    entry = algorithm.get("ContainerEntrypoint", [])
    return [*entry, *algorithm.get("ContainerArguments", [])] if entry else []


def fetch_code(s3: Any, job: Record, directory: JobDirectory) -> None:
    """Put the job's code where it runs; the channels are there by now. Raises TransferError or JobFailed."""
    if not find_entry_point(job):
        download_archive(s3, decode_hyperparameters(job)["sagemaker_submit_directory"], directory.code)
        return
    if not UNQUOTED.fullmatch(str(directory.base)):
        raise JobFailed(
            f"The local cloud runs no ContainerEntrypoint in the folder {str(directory.base)!r}, whose name a shell "
            "would take apart: start it with another LOCALCLOUD_HOME"
        )
    for path in sorted((directory.data / DRIVERS).rglob("*")):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(INSIDE.encode(), f"{directory.base}/".encode()))


def plan_launch(job: Record, directory: JobDirectory, cores: int, inherited: Mapping[str, str]) -> Launch:
    """What is to be started for the job. Raises JobFailed where the program is not in the code's archive."""
    env = build_environment(job, directory, cores, inherited)
    if words := find_entry_point(job):
        program, *argv = (word.replace(INSIDE, f"{directory.base}/") for word in words)
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [env.get("PATH")])])
        return Launch(Command(program), cwd=directory.base, log=directory.log, env=env, argv=argv)
    program = str(decode_hyperparameters(job)["sagemaker_program"])
    if not (directory.code / program).is_file():
        raise JobFailed(f"AlgorithmError: {program!r} (sagemaker_program) is not in the code's archive, exit code: 1")
    entry, first = (Script(program), []) if program.endswith(".py") else (Command("/bin/sh"), [program])
    argv = [*first, *build_arguments(job)]
    return Launch(entry, cwd=directory.code, log=directory.log, env=env, argv=argv)


def tell_start(job: Record, cores: int) -> str:
    """The line that begins a job's log: what runs, on how much of this machine, and what tells it so."""
    entry = find_entry_point(job)
    program = entry[0] if entry else decode_hyperparameters(job)["sagemaker_program"]
    variable = "OMP_NUM_THREADS" if entry else "SM_NUM_CPUS"
    return f"local cloud: {program} runs on {cores} core(s), {variable}={cores}"
