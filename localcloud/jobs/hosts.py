"""Run a job on several hosts: each has a folder of its own and processes of its own, all on this machine.

    BASE/                 algo-1
    BASE/hosts/algo-2/    the second host's tree, and so on

SageMaker starts the same container on every instance, downloads every channel there (FullyReplicated), mirrors every
checkpoint folder to the same prefix, and packs what all hosts leave in their model folders. The job fails with the
first host that fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from localcloud.common.clock import Clock
from localcloud.common.logs import LogStream
from localcloud.common.store import Record
from localcloud.common.transfers import TransferError, download_prefix
from localcloud.jobs.checkpoints import CheckpointMirror
from localcloud.jobs.directory import DEFAULT_CHECKPOINTS, JobDirectory, list_hosts
from localcloud.jobs.entry_points import fetch_code
from localcloud.jobs.forkserver import Process
from localcloud.jobs.output import LogReader

LOG_GROUP = "/aws/sagemaker/TrainingJobs"


class Host:
    """One instance of a job: its folder, its log, and its mirror of the checkpoints."""

    def __init__(self, job: Record, directory: JobDirectory, cores: int, s3: Any, logs: Any, clock: Clock) -> None:
        self.job, self.directory, self.cores = job, directory, cores
        self._s3, self._clock = s3, clock
        self._stream = make_stream(logs, job, directory.host)
        directory.base.mkdir(parents=True, exist_ok=True)
        self.log = LogReader(directory.log, directory.log_mark)
        self.mirror = self.make_mirror()
        self.archive = ""

    def make_mirror(self) -> CheckpointMirror | None:
        config = self.job.get("CheckpointConfig")
        if config is None:
            return None
        inside = Path(config.get("LocalPath", DEFAULT_CHECKPOINTS)).relative_to("/opt/ml")
        return CheckpointMirror(self._s3, config["S3Uri"], self.directory.base / inside, self._clock)

    def download(self) -> None:
        """Build the tree, and fill it with channels, code and checkpoints. Raises TransferError or JobFailed."""
        self.directory.prepare(self.job, self.cores)
        for channel in self.job.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if not download_prefix(self._s3, uri, self.directory.data / channel["ChannelName"]):
                raise TransferError(f'Data download failed: No S3 objects found under S3 URL "{uri}"')
        self.archive = fetch_code(self._s3, self.job, self.directory)
        self.fill()

    def fill(self) -> None:
        if self.mirror is not None:
            self.mirror.fill()

    def sync(self, *, all_files: bool = False) -> None:
        if self.mirror is not None:
            self.mirror.sync(all_files=all_files)

    def read_log(self, take: Callable[[list[str]], None], *, last: bool = False) -> None:
        """Hand on the log's new lines, send them to CloudWatch Logs, and mark them as read."""
        if not self.directory.log.exists():
            return
        lines = self.log.read(last=last)
        take(lines)
        self._stream.write(lines, self._clock.now())
        if lines:
            self.log.mark()

    def write_line(self, line: str) -> None:
        with self.directory.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def leave(self) -> None:
        """Delete everything that another instance would not have."""
        self.directory.clear()
        self.mirror = self.make_mirror()


def make_hosts(job: Record, directory: JobDirectory, cores: int, s3: Any, logs: Any, clock: Clock) -> list[Host]:
    """Return the hosts of a job, which share its cores."""
    names = list_hosts(job)
    share = max(1, cores // len(names))
    return [Host(job, directory.of_host(name), share, s3, logs, clock) for name in names]


def make_stream(logs: Any, job: Record, host: str) -> LogStream:
    """Return the stream of a host's log, named as SageMaker names it."""
    return LogStream(logs, LOG_GROUP, f"{job['TrainingJobName']}/{host}-{int(job['CreationTime'].timestamp())}")


def merge_outputs(hosts: Sequence[Host]) -> None:
    """Put what the other hosts left in their model and output folders beside what the first left.

    Of two files of one name SageMaker keeps one, and does not say which.
    """
    first = hosts[0].directory
    for other in (host.directory for host in hosts[1:]):
        for source, target in ((other.model, first.model), (other.output_data, first.output_data)):
            for path in (path for path in sorted(source.rglob("*")) if path.is_file()):
                place = target / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


class Processes:
    """The first processes of all hosts, as one that ends when all have ended, or with the first that fails."""

    def __init__(self, each: Sequence[Process]) -> None:
        self.each = each
        self.failed: list[int] = []  # the numbers of the hosts that failed first, mostly one

    @property
    def lost(self) -> bool:
        return any(process.lost for process in self.each)

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most about `seconds`. Returns the exit status, or None while the job runs."""
        next((process for process in self.each if process.poll() is None), self.each[0]).wait(seconds)
        statuses = [process.poll() for process in self.each]
        self.failed = [number for number, status in enumerate(statuses) if status]
        if self.failed:
            self.kill()
            for process in self.each:
                process.wait()
            return statuses[self.failed[0]]
        return None if None in statuses else 0

    def notify(self) -> None:
        for process in self.each:
            process.notify()

    def kill(self) -> None:
        for process in self.each:
            process.kill()
