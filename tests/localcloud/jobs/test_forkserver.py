"""Processes forked from a template: how they begin, what they see, and that none outlives its cloud."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localcloud.jobs.forkserver import Command, ForkServer, Function, Launch, Process, Script
from tests.localcloud.sagemaker_support import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    running = ForkServer(preload=("sqlite3", "no_such_package"))
    yield running
    running.close()


def launch(server: ForkServer, folder: Path, text: str, *argv: str, **env: str) -> Process:
    (folder / "program.py").write_text(text)
    environment = {"PATH": os.environ["PATH"], **env}
    return server.launch(Launch(Script("program.py"), folder, folder / "log", environment, argv))


def read(folder: Path) -> str:
    path = folder / "log"
    return path.read_text() if path.exists() else ""


def test_a_program_runs_as_in_an_interpreter_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    """Arguments, folder, environment, name and path are the program's; the template's imports are there already."""
    text = (
        "import os, sys\n"
        "print(__name__, sys.argv[1:], os.getcwd(), dict(os.environ), sys.path[0], 'sqlite3' in sys.modules)\n"
        "print('to stderr', file=sys.stderr)\n"
    )
    process = launch(server, tmp_path, text, "--a", "1", COLOUR="blue")
    assert process.wait(10) == 0
    wanted = {"PATH": os.environ["PATH"], "COLOUR": "blue"}
    assert read(tmp_path) == f"__main__ ['--a', '1'] {tmp_path} {wanted} {tmp_path} True\nto stderr\n"


def test_the_template_reports_what_it_has_imported(server: ForkServer) -> None:
    """The report has its process id, the time that it took and what was missing. Its memory can be measured."""
    server.warm()
    report = server.wait_ready(20)
    assert report is not None
    assert report["missing"] == ["no_such_package"]
    assert psutil.pid_exists(report["pid"])
    assert server.measure_memory() > 1_000_000


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit(7)", 7),
        ("raise SystemExit('a message')", 1),
        ("raise ValueError('wrong')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os; os._exit(3)", 3),
    ],
)
def test_exit_statuses_come_back(server: ForkServer, tmp_path: Path, text: str, status: int) -> None:
    """They are as subprocess reports them: minus the signal's number for a killed process."""
    assert launch(server, tmp_path, text).wait(10) == status


def test_a_program_ends_as_in_an_interpreter(server: ForkServer, tmp_path: Path) -> None:
    """Its threads are joined, its exit functions are called, and its output is flushed."""
    text = (
        "import atexit, sys, threading, time\n"
        "atexit.register(lambda: print('at exit'))\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "sys.stdout.write('no newline;')\n"
    )
    assert launch(server, tmp_path, text).wait(10) == 0
    assert read(tmp_path) == "no newline;thread\nat exit\n"


def test_a_traceback_begins_in_the_program(server: ForkServer, tmp_path: Path) -> None:
    """The template's own frames would not help a reader of the log."""
    launch(server, tmp_path, "def f():\n    raise ValueError('wrong')\nf()").wait(10)
    lines = read(tmp_path).splitlines()
    assert lines[1] == f'  File "{tmp_path}/program.py", line 3, in <module>'
    assert lines[-1] == "ValueError: wrong"


def test_functions_and_other_programs_can_be_entries(server: ForkServer, tmp_path: Path) -> None:
    """An entry may be a module's function, found by `paths`, or any program on PATH."""
    (tmp_path / "served.py").write_text("import sys\ndef main():\n    print('served', sys.argv[1:])\n")
    env = {"PATH": os.environ["PATH"]}
    entry = Function("served:main")
    process = server.launch(Launch(entry, tmp_path, tmp_path / "log", env, ["x"], paths=[str(tmp_path)]))
    assert process.wait(10) == 0
    process = server.launch(Launch(Command("sh"), tmp_path, tmp_path / "log", env, ["-c", "echo $0; exit 4"]))
    assert process.wait(10) == 4
    assert read(tmp_path) == "served ['x']\nsh\n"


def test_children_draw_different_random_numbers(server: ForkServer, tmp_path: Path) -> None:
    """Children do not inherit the template's generator."""
    for _ in range(2):
        launch(server, tmp_path, "import random; print(random.random())").wait(10)
    first, second = read(tmp_path).split()
    assert first != second


def test_signals_reach_the_whole_process_group(server: ForkServer, tmp_path: Path) -> None:
    """terminate and kill end a program and what it started. A forked program has its own handlers."""
    text = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(5)))\n"
        "child = subprocess.Popen(['sleep', '60'])\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = launch(server, tmp_path, text)
    wait_until(lambda: read(tmp_path).strip())
    child = int(read(tmp_path))
    process.terminate()
    assert process.wait(10) == 5
    assert "saved" in read(tmp_path)
    wait_until(lambda: not is_running(child))


def test_what_a_program_leaves_behind_ends_with_it(server: ForkServer, tmp_path: Path) -> None:
    """As in a container, the others end when the first process does."""
    text = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    assert launch(server, tmp_path, text).wait(10) == 0
    wait_until(lambda: not is_running(int(read(tmp_path))))


def test_a_killed_template_takes_its_children_along_and_is_replaced(tmp_path: Path) -> None:
    """Its children count as lost, which a job may retry; the next launch starts another template."""
    server = ForkServer(preload=())
    process = launch(server, tmp_path, "import time; time.sleep(60)")
    report = server.wait_ready(10)
    assert report is not None
    os.kill(report["pid"], signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert process.lost
    assert process.pid is not None
    pid = process.pid
    wait_until(lambda: not is_running(pid))
    again = launch(server, tmp_path, "print('again')")
    assert (again.wait(10), again.lost) == (0, False)
    server.close()


def test_nothing_outlives_a_killed_cloud(tmp_path: Path) -> None:
    """kill -9 of the process that owns the server ends template and children, grandchildren included."""
    cloud = (
        "import os, sys, time\nfrom pathlib import Path\nfrom localcloud.jobs.forkserver import *\n"
        f"folder = Path({str(tmp_path)!r})\nserver = ForkServer(preload=())\n"
        "server.launch(Launch(Script('program.py'), folder, folder / 'log', {'PATH': os.environ['PATH']}))\n"
        "print(server.wait_ready(10)['pid'], flush=True)\ntime.sleep(60)\n"
    )
    text = "import os, subprocess, time\nprint(os.getpid(), subprocess.Popen(['sleep', '60']).pid)\ntime.sleep(60)"
    (tmp_path / "program.py").write_text(text)
    owner = subprocess.Popen([sys.executable, "-c", cloud], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    template = int(owner.stdout.readline())
    child, grandchild = wait_until(lambda: [int(pid) for pid in read(tmp_path).split()])
    owner.kill()
    owner.wait()
    owner.stdout.close()
    for pid in (template, child, grandchild):
        wait_until(lambda pid=pid: not is_running(pid))


def test_a_closed_server_launches_nothing(tmp_path: Path) -> None:
    """close ends what runs. A later launch is an error."""
    server = ForkServer(preload=())
    process = launch(server, tmp_path, "import time; time.sleep(60)")
    server.close()
    assert process.wait(10) is not None
    with pytest.raises(RuntimeError, match="closed"):
        launch(server, tmp_path, "pass")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
