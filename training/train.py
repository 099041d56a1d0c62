"""Train an image classifier under SageMaker's script mode: SM_* environment in; exit code and `failure` file out.

The first line is printed before torch is imported, so that the log shows life at once. SIGTERM is SageMaker's request
to stop: the training saves its state, ships its best epoch so far, and exits with 0.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from job.metrics import log
from job.settings import TrainingError, read_given, read_hyperparameters, read_job


class StopRequest:
    """SageMaker's request to stop the job. Before `defer` there is nothing to save, so the job ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self.deferred = False

    def __call__(self) -> bool:
        return self.asked

    def defer(self) -> None:
        """Only record a request from now on; the training checks after each step."""
        self.deferred = True
        if self.asked:
            raise SystemExit(0)

    def receive(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM; a second one ends the program at once.

        The request is recorded in every case, because Python drops an exception raised inside a finaliser.
        """
        again, self.asked = self.asked, True
        if again or not self.deferred:
            raise SystemExit(0)


def main() -> int:
    """Run the job that the environment describes. Return 0, or 1 with a sentence in the failure file."""
    begun = time.time()
    code = Path(__file__).resolve().parent
    job = read_job(os.environ, code, share="--no-cache" not in sys.argv)
    stop = StopRequest()
    signal.signal(signal.SIGTERM, stop.receive)
    team = f", process {job.rank} of {job.ranks}" if job.ranks > 1 else ""
    log(f"whippet training: job {job.name}, {job.threads} threads, {job.gpus} GPUs{team}")
    if job.rank:
        # SageMaker would read each metric from every process; errors are still printed.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the rest of the program
    try:
        hyperparameters = read_hyperparameters(read_given(os.environ), log)
        from images.early import decode_early

        early = decode_early(job, hyperparameters, log)
        # Imported late: importing torch takes seconds, and the line above shows meanwhile that the job is alive.
        gc.disable()
        import program

        # Imports leave next to no garbage, but a million objects, which each full collection would look through.
        gc.freeze()
        gc.enable()
        program.run(job, hyperparameters, stop, begun=begun, early=early)
        gc.freeze()  # for the same reason: the interpreter looks through all objects as it ends
    except TrainingError as error:
        return fail(job.places.output, str(error))
    except Exception as error:  # noqa: BLE001  whatever happened, the job's owner must learn of it
        traceback.print_exc()
        return fail(job.places.output, f"{type(error).__name__}: {error} (the log of {job.name} has the traceback)")
    return 0


def fail(output: Path, reason: str) -> int:
    """Write the reason to the log and to the file where SageMaker looks for it."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "failure").write_text(reason, encoding="utf-8")
    sys.stderr.write(f"training failed: {reason}\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main())
