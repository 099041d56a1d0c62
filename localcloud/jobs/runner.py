"""Run training jobs as processes: one queue for the machine's cores, and one thread for each job that has its cores.

SageMaker gives every job a machine; here they share one. A tuning job's children get the cores divided by
MaxParallelTrainingJobs, and any other job gets them all. The number depends on the request alone, never on what else
runs, because results are reproducible only with the same number of threads. Jobs wait in the order of their creation,
InProgress and Starting, until their cores are free. So a job that needs all cores cannot starve.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from localcloud.common.store import Record
from localcloud.jobs.directory import JobDirectory, list_hosts
from localcloud.jobs.hosts import make_stream
from localcloud.jobs.run import JobRun, Tools, clear_directory
from localcloud.sagemaker.core.cloud import JobReport, Outcome

log = logging.getLogger(__name__)
LINES_AGAIN = 1_000  # of a job's log are shown after a restart
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TORCH_HOME")
INHERITED_KINDS = ("AWS_", "XDG_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_", "no_proxy")


@dataclass(eq=False)
class Waiting:
    """A job that waits for its cores."""

    job: Record
    report: JobReport
    cores: int


class ProcessJobRunner:
    """Runs training jobs as processes, each below `folder`/NAME. Thread-safe."""

    def __init__(self, folder: Path, tools: Tools, cores: int | None = None) -> None:
        self._folder = folder
        self._tools = tools
        self._cores = cores or count_cores()
        self._free = self._cores
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._runs: dict[str, JobRun] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def start(self, job: Record, report: JobReport) -> None:
        """Queue the job. It begins at once if its cores are free.

        A job whose stop a killed cloud had begun runs no program, so it needs no cores.
        """
        if job["TrainingJobStatus"] == "Stopping":
            with self._lock:
                self._begin(Waiting(job, report, 0))
            return
        share = max(1, self._cores // job.get("_parallel", 1))
        item = Waiting(job, report, share)
        with self._lock:
            self._waiting.append(item)
        self._admit()
        if item in self._waiting:
            message = f"Waiting for {share} of this machine's {self._cores} core(s)"
            threading.Thread(target=report.enter_stage, args=("Starting", message), daemon=True).start()

    def stop(self, name: str) -> None:
        """Send SIGTERM to the container's process 1, then SIGKILL to all. A waiting job just leaves the queue."""
        with self._lock:
            run = self._runs.get(name)
            waiting = next((item for item in self._waiting if item.job["TrainingJobName"] == name), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if run is not None:
            run.ask_stop()
        elif waiting is not None:
            threading.Thread(target=waiting.report.finish, args=(Outcome("Stopped"),), daemon=True).start()

    def show_logs_again(self, jobs: Iterable[Record]) -> None:
        """Send the last lines of ended jobs once more: CloudWatch Logs is in memory here, and forgets at a restart."""
        for job in jobs:
            first = JobDirectory((self._folder / job["TrainingJobName"]).absolute())
            for host in list_hosts(job):
                path = first.of_host(host).log
                if path.is_file():
                    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_AGAIN:]
                    stream = make_stream(self._tools.logs, job, host)
                    stream.write(lines, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def close(self, seconds: float = 10.0) -> None:
        """Kill all programs without a report. Their jobs continue from their checkpoints with the next cloud."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            runs, threads = list(self._runs.values()), list(self._threads.values())
        for run in runs:
            run.abandon()
        for thread in threads:
            thread.join(seconds)

    def _admit(self) -> None:
        with self._lock:
            while self._waiting and self._waiting[0].cores <= self._free and not self._closed:
                item = self._waiting.popleft()
                self._free -= item.cores
                self._begin(item)

    def _begin(self, item: Waiting) -> None:
        name = item.job["TrainingJobName"]
        directory = JobDirectory((self._folder / name).absolute())
        if "TrainingStartTime" not in item.job:
            clear_directory(directory)  # a job of this name existed and was deleted
        directory.base.mkdir(parents=True, exist_ok=True)
        self._runs[name] = JobRun(item.job, item.report, directory, item.cores, self._tools)
        thread = threading.Thread(target=self._run, args=(name, item.cores), name=f"job-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _run(self, name: str, cores: int) -> None:
        try:
            self._runs[name].run()
        finally:
            with self._lock:
                self._free += cores
                del self._runs[name], self._threads[name]
            self._admit()


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a job's program inherits: enough to run and to reach the local AWS, not the whole terminal's."""
    return {
        name: value
        for name, value in environment.items()
        if name in INHERITED or any(name.startswith(kind) for kind in INHERITED_KINDS)
    }
