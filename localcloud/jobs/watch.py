"""Upload what SageMaker's Debugger and Profiler collect while a job trains, where the request asks for it.

    DebugHookConfig.S3OutputPath/JOB/debug-output/        the tensors that the hook writes into its LocalPath
    ProfilerConfig.S3OutputPath/JOB/profiler-output/      system/, which is sampled here, outside the job

In SageMaker the file `training_job_end.ts` beside the tensors, not the hook, says that the job has ended. smdebug's
`create_trial` waits for it. Nothing there is ever deleted. A file that the job's role may not write is missing, and the
log says so.
"""

from __future__ import annotations

import shutil
from typing import Any

from localcloud.common.clock import Clock
from localcloud.common.mirrors import Mirror
from localcloud.common.store import Record
from localcloud.jobs.directory import JobDirectory, place_tensors
from localcloud.jobs.system_metrics import SystemSampler

END = "training_job_end.ts"


class Watch:
    """The uploads of one job. The job's own threads call `begin`, `sync` and `end`, one at a time."""

    def __init__(self, job: Record, directory: JobDirectory, s3: Any, clock: Clock) -> None:
        self._profiler, self._samples, self._clock = _find_profiler(job), directory.base / "profiler", clock
        self._sampler: SystemSampler | None = None
        self._tensors = place_tensors(job, directory.base)
        name, mirrored = job["TrainingJobName"], []
        if self._tensors is not None:
            mirrored.append((job["DebugHookConfig"]["S3OutputPath"], "debug-output", self._tensors))
        if self._profiler is not None:
            mirrored.append((self._profiler["S3OutputPath"], "profiler-output", self._samples))
        self._mirrors = [
            Mirror(s3, f"{uri.rstrip('/')}/{name}/{kind}/", folder, clock) for uri, kind, folder in mirrored
        ]

    def begin(self) -> None:
        """Start to sample."""
        if self._profiler is not None:
            self._sampler = SystemSampler(self._samples, self._profiler["ProfilingIntervalInMilliseconds"], self._clock)
            self._sampler.start()

    def end(self) -> None:
        """Stop sampling."""
        if self._sampler is not None:
            self._sampler.stop()
        self._sampler = None

    def sync(self, *, all_files: bool = False) -> None:
        """Upload what is new or has changed."""
        for mirror in self._mirrors:
            mirror.sync(all_files=all_files)

    def finish(self) -> None:
        """Upload the rest, and mark beside the tensors that no more will come."""
        if self._tensors is not None:
            self._tensors.mkdir(parents=True, exist_ok=True)
            (self._tensors / END).touch()
        self.sync(all_files=True)

    def discard(self) -> None:
        """Delete the local files; they are in S3."""
        for folder in (self._samples, self._tensors):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _find_profiler(job: Record) -> Record | None:
    config: Record = job.get("ProfilerConfig", {"DisableProfiler": True})
    return None if config.get("DisableProfiler", False) else config
