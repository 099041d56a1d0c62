"""Import torch, run nothing with it, and fork a job for each line read.

In: {"script", "argv", "environ", "cwd", "log"}; out: {"pid"} at once, {"pid", "code"} when it ends; all are JSON lines.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import sys
from typing import Any

import torch  # noqa: F401 - imported for the children
import torchvision  # noqa: F401


def become(request: dict[str, Any]) -> None:
    """Turn this forked process into the job."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = [request["script"], *request["argv"]]
    sys.path[0] = request["cwd"]
    code = 1
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def tell(message: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def serve() -> None:
    """Start and reap jobs without threads: a fork would copy locks that another thread holds, locked for ever."""
    running: set[int] = set()
    while True:
        for pid in [pid for pid in running if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]:
            running.remove(pid)
            tell({"pid": pid, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})
        if not select.select([sys.stdin], [], [], 0.02)[0]:
            continue
        line = sys.stdin.readline()
        if not line:
            break
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        running.add(pid)
        tell({"pid": pid})
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
