"""Ten kills within two pipelines. `make chaos-kills` kills a hundred times."""

from __future__ import annotations

from pathlib import Path

from localcloud.common.durable import PARTIAL
from tests.end_to_end.kills.judging import find_broken_files, find_unexplained
from tests.end_to_end.kills.ordeal import Ordeal

SEED = 2302  # a job, then endpoints as they start and while they serve, and the cloud in between


def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    """The cloud, jobs and endpoints die at random moments: each run finishes or says why.

    No process outlives its cloud, no file is half written, nothing is set aside, and nothing is made twice.
    """
    ordeal = Ordeal(tmp_path / "state", SEED, longest_wait=3.0, patience=60.0)
    ordeal.endure(kills=10, at_once=2, pipelines=2)
    assert ordeal.killed.total() == 10
    assert ordeal.killed.keys() == {"cloud", "job", "endpoint"}
    assert len(ordeal.runs) == 2


def test_half_written_files_and_silent_ends_would_be_found(tmp_path: Path) -> None:
    """The judge finds a cut document, an unfinished one and one that was set aside, and a run without a reason."""
    whole = {"a.json": "{}", "lines.jsonl": '{"a": 1}\n{"b": 2}\n', "jobs/dogs/log.json": "{"}
    broken = {
        "cut.json": '{"a":',
        "cut.jsonl": '{"a": 1}\n{"b',
        f".x{PARTIAL}1": "",
        "old.json.broken-1": "",
        "a.tmp": "",
    }
    for name, text in (whole | broken).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = find_broken_files(tmp_path)
    assert sorted(Path(fault.split()[0]).name for fault in found) == sorted(broken)
    runs = [
        {"dataset": "a", "status": "deployed"},
        {"dataset": "b", "status": "failed", "reason": ""},
        {"dataset": "c", "status": "failed", "reason": "its trials were killed"},
        {"dataset": "d", "status": "failed", "reason": "the cloud was killed"},
    ]
    hit = {"jobs/app-b-0-train", "jobs/app-c-0-001-01234567", "jobs/app-c-0-002-01234567", "jobs/app-d-0-001-01234567"}
    told = find_unexplained(runs, hit)
    assert [fault.split(" ")[1].strip("',") for fault in told] == ["b", "d"]
