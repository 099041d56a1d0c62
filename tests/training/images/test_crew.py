"""Work in processes: every piece is done once, whatever becomes of a process, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from images.decoding.crew import MOST, Crew


def test_every_piece_is_done_once(tmp_path: Path) -> None:
    """By one of the processes, and its answer comes back by its number."""

    def work(number: int) -> list[Any]:
        with (tmp_path / "done").open("a") as file:
            file.write(f"{number}\n")
        return [number * 2, "ä"]

    assert Crew(50, 3, work).wait() == {number: [number * 2, "ä"] for number in range(50)}
    assert sorted(map(int, (tmp_path / "done").read_text().split())) == list(range(50))


def test_what_a_process_left_undone_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    """One that fails or is killed takes its piece with it, and the others go on."""

    def work(number: int) -> int:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 5:
            raise MemoryError("too large")
        time.sleep(0.01)
        return number

    found = Crew(10, 3, work).wait()
    assert found.keys() == set(range(10)) - {3, 5}
    assert "too large" in capfd.readouterr().err


def test_a_crew_can_be_dismissed() -> None:
    """Nobody waits for what is not needed."""
    begun = time.monotonic()
    crew = Crew(4, 2, lambda _: time.sleep(60))
    crew.dismiss()
    assert time.monotonic() - begun < 10
    assert crew.members == {}


def test_more_pieces_than_a_pipe_holds_are_refused() -> None:
    """Else filling it would wait for ever."""
    with pytest.raises(ValueError, match="make them larger"):
        Crew(MOST + 1, 1, lambda _: None)


def lead(folder: str) -> None:
    """Begin work that has no end, and be killed."""

    def work(number: int) -> None:
        Path(folder, str(os.getpid())).touch()
        time.sleep(60)

    Crew(2, 2, work)
    time.sleep(60)


def test_processes_die_with_their_parent(tmp_path: Path) -> None:
    """kill -9 of the job leaves nobody behind."""
    leader = multiprocessing.get_context("fork").Process(target=lead, args=(str(tmp_path),))
    leader.start()
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    leader.kill()
    leader.join()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    wait_for(lambda: not any(map(is_alive, pids)))


def wait_for(condition: Any) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
