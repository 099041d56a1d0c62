"""What is kept for the other jobs of a machine: it is whole or not there, and bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from caching.sharing import obtain, share
from caching.store import Array, Store

TRAINING = Path(__file__).resolve().parents[3] / "training"


def make(number: int) -> Array:
    return np.full((4, 3), number, dtype=np.float32)


def test_an_array_comes_back_read_only(tmp_path: Path) -> None:
    """As it was written, for another process too."""
    assert Store(tmp_path).write("a", make(7))
    found = Store(tmp_path).read("a")
    assert found is not None
    assert np.array_equal(found, make(7))
    assert not found.flags.writeable


@pytest.mark.parametrize("place", [0, 60, -1])
def test_a_flipped_byte_is_noticed(tmp_path: Path, place: int) -> None:
    """The file is removed, so that the next job makes it again."""
    store = Store(tmp_path)
    store.write("a", make(7))
    (path,) = tmp_path.glob("a-*.npy")
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert store.read("a") is None
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 10, 100])
def test_a_file_that_was_cut_is_noticed(tmp_path: Path, length: int) -> None:
    """Whether its header or its data is missing."""
    store = Store(tmp_path)
    store.write("a", make(7))
    (path,) = tmp_path.glob("a-*.npy")
    os.truncate(path, length)
    assert store.read("a") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    """Reading counts as using."""
    size = 176  # of a small array's file
    store = Store(tmp_path, limit=3 * size)
    for number, key in enumerate("abc"):
        assert store.write(key, make(number))
        os.utime(next(tmp_path.glob(f"{key}-*")), (number, number))
    store.read("a")
    assert store.write("d", make(4))
    assert sorted(path.name[0] for path in tmp_path.glob("*.npy")) == ["a", "c", "d"]


def test_an_array_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    """And nothing is removed for it."""
    store = Store(tmp_path, limit=200)
    store.write("a", make(1))
    assert not store.write("b", np.zeros(1000))
    assert store.read("a") is not None


def test_without_space_the_training_goes_on(tmp_path: Path) -> None:
    """A full disk is not an error: the array is computed, and no half of it stays behind."""
    import resource

    code = (
        "import resource, signal, sys; sys.path.append(sys.argv[1]); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from pathlib import Path; import numpy as np; from caching.store import Store\n"
        "print(Store(Path(sys.argv[2])).write('a', np.zeros(100_000)))"
    )
    done = subprocess.run([sys.executable, "-c", code, TRAINING, tmp_path], capture_output=True, text=True, check=True)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    assert done.stdout.strip() == "False"
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def build_slowly(folder: Path, started: str) -> None:
    """Claim an array, say so, and never come to its end."""
    with Store(folder).claim("a") as mine:
        Path(started).write_text(str(mine))
        time.sleep(60)


def test_the_lock_of_a_builder_dies_with_it(tmp_path: Path) -> None:
    """kill -9 while it builds: the next job builds instead, without waiting."""
    started = tmp_path / "started"
    builder = multiprocessing.get_context("fork").Process(target=build_slowly, args=(tmp_path / "s", str(started)))
    builder.start()
    while not started.exists():
        time.sleep(0.01)
    assert started.read_text() == "True"
    store = Store(tmp_path / "s")
    assert obtain(store, "a", lambda: make(1), patience=0) is None
    os.kill(builder.pid or 0, signal.SIGKILL)
    builder.join()
    found = obtain(store, "a", lambda: make(1), patience=0)
    assert found is not None


def test_who_waits_too_long_computes_for_itself(tmp_path: Path) -> None:
    """A slow or stopped job holds nobody up."""
    started = tmp_path / "started"
    builder = multiprocessing.get_context("fork").Process(target=build_slowly, args=(tmp_path / "s", str(started)))
    builder.start()
    while not started.exists():
        time.sleep(0.01)
    found = obtain(Store(tmp_path / "s"), "a", lambda: make(5), patience=0.2)
    builder.kill()
    builder.join()
    assert np.array_equal(found, make(5))


def help_out(folder: Path, begin: int, made: str) -> None:
    """Take part in computing ten arrays, and count those that were computed here."""

    def compute(number: int) -> Array:
        time.sleep(0.02)
        with Path(made).open("a") as file:
            file.write(f"{number}\n")
        return make(number)

    arrays = share(Store(folder), [f"k{number}" for number in range(10)], compute, workers=2, begin=begin)
    assert [array[0, 0] for array in arrays] == list(range(10))


def test_four_jobs_at_once_build_each_array_once(tmp_path: Path) -> None:
    """They share the work, and each gets all of it."""
    made = tmp_path / "made"
    arguments = [(tmp_path / "s", begin, str(made)) for begin in (0, 2, 5, 7)]
    jobs = [multiprocessing.get_context("fork").Process(target=help_out, args=each) for each in arguments]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    assert sorted(map(int, made.read_text().split())) == list(range(10))


def test_without_a_store_everything_is_computed() -> None:
    """In the keys' order."""
    arrays = share(None, ["", "", ""], make, workers=2, begin=1)
    assert [array[0, 0] for array in arrays] == [0, 1, 2]
