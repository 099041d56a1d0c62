"""Carry out one training job from download to upload, in its own thread, under SageMaker's container contract."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from localcloud.common.bytecode import Bytecode
from localcloud.common.clock import Clock
from localcloud.common.durable import write_whole
from localcloud.common.faults import Faults, ReadFaults
from localcloud.common.store import Record
from localcloud.common.transfers import TransferError, upload_archive
from localcloud.iam.access import Access
from localcloud.jobs.directory import JobDirectory
from localcloud.jobs.entry_points import JobFailed, find_entry_point, find_port, plan_launch, tell_start
from localcloud.jobs.forkserver import LOST, ForkServer
from localcloud.jobs.hosts import Processes, make_hosts, merge_outputs
from localcloud.jobs.spot import NO_CAPACITY, Market
from localcloud.jobs.watch import Watch
from localcloud.sagemaker.core.cloud import JobReport, Outcome
from localcloud.sagemaker.core.metrics import compile_metrics, find_metrics

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.2  # between two readings of the log while the program runs
MIRROR_SECONDS = 1.0
LONGEST_FAILURE = 1024
UNHEARD_SECONDS = 5.0


@dataclass(frozen=True)
class Tools:
    """What a job is carried out with.

    `s3` and `logs` are boto3 clients. `environment` is what programs inherit. `grace` is the time between SIGTERM and
    SIGKILL in seconds (SageMaker's is 120), at most UNHEARD_SECONDS where no program hears the first. `assume` returns
    a role's access. `faults` reads the faults on purpose. `bytecode` keeps what Python compiled of the jobs' archives.
    """

    s3: Any
    logs: Any
    processes: ForkServer
    clock: Clock
    environment: Mapping[str, str]
    grace: float = 120.0
    assume: Callable[[str], Access | None] = lambda _arn: None
    faults: ReadFaults = Faults
    bytecode: Bytecode | None = None

    def of_role(self, arn: str) -> Tools:
        """Return the tools with which a job or an endpoint works under its role."""
        access = self.assume(arn)
        if access is None:
            return self
        environment = {**self.environment, **access.variables}
        return replace(self, s3=access.s3, logs=access.logs, environment=environment)


class JobRun:
    """A job that has its cores. `run` blocks until the end. The other methods may be called from other threads."""

    def __init__(self, job: Record, report: JobReport, directory: JobDirectory, cores: int, tools: Tools) -> None:
        self._job = job
        self._report = report
        self._directory = directory
        self._cores = cores
        self._tools = tools = tools.of_role(job["RoleArn"])
        # A stop that a killed cloud had begun: what the program left is uploaded, and it is not run again.
        self._was_stopping = job["TrainingJobStatus"] == "Stopping"
        self._stop_reason = Outcome("Stopped") if self._was_stopping else None
        self._abandoned = False
        self._interrupted = False
        self._market = Market(job, tools.faults)
        self._woken = threading.Event()
        self._hosts = make_hosts(job, directory, cores, tools.s3, tools.logs, tools.clock)
        self._failed = self._hosts[:1]
        self._watch = Watch(job, directory, tools.s3, tools.clock)
        self._metrics = compile_metrics(job["AlgorithmSpecification"].get("MetricDefinitions", []))

    def ask_stop(self) -> None:
        """Ask the job to end, as StopTrainingJob does."""
        self._stop_reason = self._stop_reason or Outcome("Stopped")
        self._woken.set()

    def abandon(self) -> None:
        """Kill the program without a report, since the cloud is closing. The job continues with the next cloud."""
        self._abandoned = True
        self._woken.set()

    def run(self) -> None:
        """Carry out the job and report its end. Every error becomes a FailureReason."""
        try:
            outcome = self._carry_out()
        except JobFailed as error:
            outcome = Outcome("Failed", reason=str(error))
        except TransferError as error:
            outcome = Outcome("Failed", reason=f"ClientError: {error}")
        except Exception as error:
            log.exception("job %s failed in the local cloud", self._job["TrainingJobName"])
            outcome = Outcome("Failed", reason=f"InternalServerError: {type(error).__name__}: {error}")
        if not self._abandoned:
            self._report.finish(outcome)
            for host in self._hosts:
                if self._tools.bytecode is not None:
                    self._tools.bytecode.keep(host.archive, host.directory.code)
                host.directory.discard()
            self._watch.discard()

    def _carry_out(self) -> Outcome:
        status = self._recall()
        while status is None:
            self._wait_for_capacity()
            if self._is_ending():
                return self._stop_reason or Outcome("Stopped")
            self._download()
            if self._is_ending():
                return self._stop_reason or Outcome("Stopped")
            status = self._train_with_retries()
            if self._interrupted and not self._is_ending():
                self._leave_instance()
                status = None
        if self._abandoned:
            return Outcome("Stopped")  # not reported
        self._report.enter_stage("Uploading")
        self._upload()
        return self._judge(status)

    def _recall(self) -> int | None:
        """Return the exit status of a program that an earlier cloud ran to its end, or began to stop; else None."""
        status = self._recall_exit()
        if status is None and self._was_stopping:
            status = LOST
        if status is None:
            return None
        if self._directory.log.exists():
            self._read_log(last=True)
        for host in self._hosts:
            if host.directory.model.exists():
                host.fill()
        return status

    def _is_ending(self) -> bool:
        return self._stop_reason is not None or self._abandoned

    def _wait_for_capacity(self) -> None:
        """Wait for capacity: a spot job up to its MaxWaitTimeInSeconds. Any other job fails without capacity."""
        if not self._market.is_lacking():
            return
        if not self._market.spot:
            raise JobFailed(NO_CAPACITY)
        self._report.enter_stage("Starting", "Insufficient capacity: waiting for a managed spot instance")
        while self._market.is_lacking() and not self._is_ending():
            self._woken.wait(LOOK_SECONDS)
            self._stop_in_time()

    def _leave_instance(self) -> None:
        """Leave the interrupted instance. Only what is in S3 stays; the job begins again on another instance."""
        self._sync(all_files=True)
        self._report.enter_stage("Interrupted")
        for host in self._hosts:
            host.leave()
        self._interrupted = False
        self._report.enter_stage("Starting")

    def _stop_in_time(self) -> None:
        excess = self._market.find_excess()
        if excess is not None and self._stop_reason is None:
            self._stop_reason = Outcome("Stopped", excess)

    def _download(self) -> None:
        self._report.enter_stage("Downloading")
        for host in self._hosts:
            host.download()
            if self._tools.bytecode is not None:
                self._tools.bytecode.lend(host.archive, host.directory.code)

    def _train_with_retries(self) -> int:
        """Train, and retry as RetryStrategy says. It covers only the service's own faults: here, a killed template."""
        attempts = 1 + self._job.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
        for _ in range(attempts):
            process = self._launch()
            status = self._accompany(process)
            if not process.lost:
                return status
        raise JobFailed("InternalServerError: the process that jobs are forked from ended; please try again")

    def _launch(self) -> Processes:
        job, port = self._job, find_port()
        launches = [plan_launch(job, host.directory, host.cores, self._tools.environment, port) for host in self._hosts]
        for host in self._hosts:
            host.write_line(tell_start(job, host.cores))
        processes = Processes([self._tools.processes.launch(launch) for launch in launches])
        self._report.enter_stage("Training")
        return processes

    def _accompany(self, process: Processes) -> int:
        ended = threading.Event()
        mirroring = threading.Thread(target=self._keep_mirroring, args=(ended,), name="mirror", daemon=True)
        mirroring.start()
        self._watch.begin()
        try:
            status = self._follow(process)
        finally:
            ended.set()
            mirroring.join()
            self._watch.end()
        self._read_log(last=True)
        self._failed = [self._hosts[number] for number in process.failed] or self._hosts[:1]
        if not self._abandoned and not self._interrupted and not process.lost:
            stopped = self._stop_reason.secondary or "Stopped" if self._stop_reason else None
            write_whole(self._directory.exit_mark, json.dumps({"exit": status, "stopped": stopped}))
        return status

    def _follow(self, process: Processes) -> int:
        kill_at = None
        self._market.begin()
        while (status := process.wait(LOOK_SECONDS)) is None:
            self._read_log()
            now = time.monotonic()
            self._stop_in_time()
            if kill_at is None and not self._is_ending() and self._market.take_back():
                self._interrupted = True
                for host in self._hosts:
                    host.write_line("local cloud: the managed spot instance is interrupted")
            if kill_at is None and (self._is_ending() or self._interrupted):
                kill_at = now + self._ask_to_end(process)
            if self._abandoned or (kill_at is not None and now >= kill_at):
                process.kill()
        self._market.end()
        return status

    def _ask_to_end(self, process: Processes) -> float:
        """Send SIGTERM to process 1. Returns the seconds after which everything is killed.

        A request's own entry point is process 1. In script mode it is the shell of AWS's image, which forwards no
        signal: the program never hears SIGTERM, so a long wait for it would only hold this machine's cores.
        """
        if not find_entry_point(self._job):
            return min(self._tools.grace, UNHEARD_SECONDS)
        process.notify()
        return self._tools.grace

    def _upload(self) -> None:
        if not self._directory.model.exists():
            return  # it was stopped before it got its folder
        self._sync(all_files=True)
        self._watch.finish()
        merge_outputs(self._hosts)
        uri = self._job["ModelArtifacts"]["S3ModelArtifacts"]
        directory = self._directory
        if any(directory.model.iterdir()):
            upload_archive(self._tools.s3, directory.model, uri)
        if any(directory.output_data.iterdir()):
            upload_archive(self._tools.s3, directory.output_data, f"{uri.rpartition('/')[0]}/output.tar.gz")

    def _judge(self, status: int) -> Outcome:
        if self._stop_reason is not None:
            return self._stop_reason
        if status == 0:
            return Outcome("Completed")
        code = status if status > 0 else 128 - status  # as a shell reports deaths by signal
        return Outcome("Failed", reason=f"AlgorithmError: {self._explain_failure(code)}, exit code: {code}")

    def _explain_failure(self, code: int) -> str:
        """Return what a host that failed wrote; without that, the last line of its log."""
        for path in (host.directory.failure for host in self._failed):
            if path.exists():
                return path.read_text(encoding="utf-8", errors="replace")[:LONGEST_FAILURE].strip()
        return f'ExecuteUserScriptError:\nExitCode {code}\nErrorMessage "{self._failed[0].log.last_line}"'

    def _recall_exit(self) -> int | None:
        """Return the exit status of a program that ended before the cloud was killed, or None."""
        try:
            mark = json.loads(self._directory.exit_mark.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if mark["stopped"] is not None:
            self._stop_reason = Outcome("Stopped", mark["stopped"])
        return int(mark["exit"])

    def _keep_mirroring(self, ended: threading.Event) -> None:
        while not ended.wait(MIRROR_SECONDS):
            self._sync()

    def _sync(self, *, all_files: bool = False) -> None:
        for host in self._hosts:
            host.sync(all_files=all_files)
        self._watch.sync(all_files=all_files)

    def _read_log(self, *, last: bool = False) -> None:
        for host in self._hosts:
            host.read_log(self._take_lines, last=last)

    def _take_lines(self, lines: list[str]) -> None:
        points = [point for line in lines for point in find_metrics(self._metrics, line)]
        if points:
            self._report.add_metrics(points)


def clear_directory(directory: JobDirectory) -> None:
    """Delete the tree of an earlier job with the same name."""
    shutil.rmtree(directory.base, ignore_errors=True)
