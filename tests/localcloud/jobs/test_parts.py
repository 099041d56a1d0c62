"""The parts of a job: channels and archives, the checkpoint mirror, metrics, the log, the environment."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.common import mirrors
from localcloud.common.logs import LogStream
from localcloud.common.transfers import TransferError, download_archive, download_prefix, split_uri, upload_archive
from localcloud.jobs.checkpoints import CheckpointMirror
from localcloud.jobs.directory import build_arguments, decode_hyperparameters
from localcloud.jobs.output import LogReader
from localcloud.jobs.run import Tools
from localcloud.jobs.runner import ProcessJobRunner, choose_inherited
from localcloud.sagemaker.core.metrics import compile_metrics, find_metrics
from tests.localcloud.hosting import client
from tests.localcloud.sagemaker.simulation import SimulatedClock
from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, pack


@pytest.fixture
def prefix(local: LocalSageMaker) -> str:
    """A prefix in the bucket that no other test uses, as an S3 URI that ends in a slash."""
    return f"s3://{local.bucket}/{name_job('parts')}/"


def list_keys(local: LocalSageMaker, uri: str) -> dict[str, bytes]:
    bucket, key = split_uri(uri)
    found = local.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    return {item["Key"].removeprefix(key): local.read(f"s3://{bucket}/{item['Key']}") for item in found}


class DyingClient:
    """A client of S3 in a process that is killed before it downloads one key."""

    def __init__(self, s3: Any, last: str) -> None:
        self._s3, self._last = s3, last

    def get_paginator(self, name: str) -> Any:
        return self._s3.get_paginator(name)

    def download_file(self, bucket: str, key: str, path: str, **options: Any) -> None:
        if key.endswith(f"/{self._last}"):
            raise KeyboardInterrupt
        self._s3.download_file(bucket, key, path, **options)


def test_the_mirror_follows_changes_and_deletions(local: LocalSageMaker, prefix: str, tmp_path: Path) -> None:
    """New, changed and deleted files are mirrored. Everything else in S3 stays."""
    local.put(split_uri(prefix)[1] + "other/job.jsonl", b"theirs")
    clock, folder = SimulatedClock(), tmp_path / "checkpoints"
    mirror = CheckpointMirror(local.s3, prefix, folder, clock)
    mirror.fill()
    assert (folder / "other/job.jsonl").read_bytes() == b"theirs"
    local.put(split_uri(prefix)[1] + "other/job.jsonl", b"theirs, later")
    (folder / "mine").mkdir()
    (folder / "mine/a").write_bytes(b"1")
    (folder / "mine/b").write_bytes(b"2")
    mirror.sync()
    (folder / "mine/a").write_bytes(b"1 and more")
    (folder / "mine/b").unlink()
    mirror.sync()
    assert list_keys(local, prefix) == {"mine/a": b"1 and more", "other/job.jsonl": b"theirs, later"}


def test_large_files_wait_for_their_interval(local: LocalSageMaker, prefix: str, tmp_path: Path) -> None:
    """A large file is uploaded at once, then at most once per interval, and always at the end."""
    clock, file = SimulatedClock(), tmp_path / "checkpoints" / "large.pt"
    mirror = CheckpointMirror(local.s3, prefix, file.parent, clock)
    mirror.fill()

    def change_and_sync(fill: bytes, *, all_files: bool = False) -> bytes:
        file.write_bytes(fill * mirrors.LARGE_SIZE)
        mirror.sync(all_files=all_files)
        return list_keys(local, prefix)["large.pt"][:1]

    assert change_and_sync(b"1") == b"1"
    assert change_and_sync(b"22") == b"1"
    clock.moment += timedelta(seconds=mirrors.LARGE_INTERVAL)
    assert change_and_sync(b"333") == b"3"
    assert change_and_sync(b"4444", all_files=True) == b"4"


def test_a_folder_that_is_there_is_not_overwritten(local: LocalSageMaker, prefix: str, tmp_path: Path) -> None:
    """A killed cloud's folder is newer than S3."""
    local.put(split_uri(prefix)[1] + "state", b"old")
    (tmp_path / "state").write_bytes(b"new")
    mirror = CheckpointMirror(local.s3, prefix, tmp_path, SimulatedClock())
    mirror.fill()
    mirror.sync()
    assert list_keys(local, prefix) == {"state": b"new"}


def test_a_file_that_a_sibling_deletes_while_the_folder_is_filled_is_passed_over(
    local: LocalSageMaker, prefix: str, tmp_path: Path
) -> None:
    """Between the listing and the download another job may delete its checkpoint: the others arrive."""
    bucket, key = split_uri(prefix)
    for name in ("sibling/checkpoint.pt", "sibling/metrics.jsonl"):
        local.put(key + name, b"theirs")
    s3 = client("s3", local.url)
    gone = {"Bucket": bucket, "Key": f"{key}sibling/checkpoint.pt"}
    s3.meta.events.register("after-call.s3.ListObjectsV2", lambda **_: local.s3.delete_object(**gone))
    CheckpointMirror(s3, prefix, tmp_path / "checkpoints", SimulatedClock()).fill()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and "mirror" not in path.name] == [
        "metrics.jsonl"
    ]
    local.put(key + "sibling/checkpoint.pt", b"theirs")
    with pytest.raises(TransferError, match=r"checkpoint\.pt cannot be read"):
        download_prefix(s3, prefix, tmp_path / "channel")


def test_a_cloud_that_was_killed_writes_back_nothing_of_a_siblings(
    local: LocalSageMaker, prefix: str, tmp_path: Path
) -> None:
    """What an earlier cloud downloaded and the job left alone is neither uploaded nor deleted by the next cloud."""
    key, folder = split_uri(prefix)[1], tmp_path / "checkpoints"
    for name in ("sibling/changed", "sibling/deleted", "sibling/kept"):
        local.put(key + name, b"old")
    mirror = CheckpointMirror(local.s3, prefix, folder, SimulatedClock())
    mirror.fill()
    (folder / "mine").write_bytes(b"1")
    mirror.sync()
    (folder / "mine").write_bytes(b"newer")
    local.put(key + "sibling/changed", b"new")
    local.s3.delete_object(Bucket=local.bucket, Key=f"{key}sibling/deleted")

    after = CheckpointMirror(local.s3, prefix, folder, SimulatedClock())
    after.fill()
    after.sync(all_files=True)
    assert list_keys(local, prefix) == {"mine": b"newer", "sibling/changed": b"new", "sibling/kept": b"old"}
    (folder / "mine").unlink()
    after.sync(all_files=True)
    assert "mine" not in list_keys(local, prefix)


def test_a_cloud_that_is_killed_while_it_fills_the_folder_fills_it_again(
    local: LocalSageMaker, prefix: str, tmp_path: Path
) -> None:
    """A half-filled folder is never taken for the job's own, nor uploaded."""
    key, folder = split_uri(prefix)[1], tmp_path / "checkpoints"
    for name in ("a", "b"):
        local.put(key + name, b"whole")
    with pytest.raises(KeyboardInterrupt):
        CheckpointMirror(DyingClient(local.s3, "b"), prefix, folder, SimulatedClock()).fill()
    after = CheckpointMirror(local.s3, prefix, folder, SimulatedClock())
    after.fill()
    after.sync(all_files=True)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_an_archive_survives_the_way_there_and_back(local: LocalSageMaker, prefix: str, tmp_path: Path) -> None:
    """After packing, upload, download and unpacking, the files are the same."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "model.pth").write_bytes(bytes(range(256)))
    (tmp_path / "model" / "code" / "inference.py").write_text("pass")
    upload_archive(local.s3, tmp_path / "model", f"{prefix}model.tar.gz")
    download_archive(local.s3, f"{prefix}model.tar.gz", tmp_path / "back")
    assert (tmp_path / "back" / "model.pth").read_bytes() == bytes(range(256))
    assert (tmp_path / "back" / "code" / "inference.py").read_text() == "pass"


@pytest.mark.parametrize("body", [b"no archive", pack({"../outside": "x"})])
def test_bad_archives_are_refused(local: LocalSageMaker, prefix: str, tmp_path: Path, body: bytes) -> None:
    """An archive that is not a .tar.gz, or would write outside its folder, is an error that names the URI."""
    uri = local.put(split_uri(prefix)[1] + "bad.tar.gz", body)
    with pytest.raises(TransferError, match=r"bad\.tar\.gz is no archive that can be unpacked"):
        download_archive(local.s3, uri, tmp_path / "code")
    assert not (tmp_path / "outside").exists()


def test_a_key_cannot_leave_its_channel(local: LocalSageMaker, prefix: str, tmp_path: Path) -> None:
    """A key with dots is legal in S3, so the download refuses it."""
    local.put(split_uri(prefix)[1] + "../../x", b"x")
    with pytest.raises(TransferError, match="would leave the folder"):
        download_prefix(local.s3, prefix, tmp_path / "channel")


@pytest.mark.parametrize("uri", ["http://bucket/key", "bucket/key", "s3://", "s3:///key"])
def test_only_s3_uris_are_read(uri: str) -> None:
    """Anything else is refused, and the error quotes it."""
    with pytest.raises(TransferError, match="is no S3 URI"):
        split_uri(uri)


@given(key=st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=30))
def test_any_key_is_read_from_its_uri(key: str) -> None:
    """`?`, `#` and `%` are ordinary characters of a key."""
    assert split_uri(f"s3://bucket/{key}") == ("bucket", key)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("epoch=3 valid:score=0.93 seconds=8.1", [("valid:score", 0.93)]),
        ("valid:score=-1.5e-3 train:loss=2", [("train:loss", 2.0), ("valid:score", -0.0015)]),
        ("valid:score=nan", []),
        ("valid:score=e", []),
        ("nothing", []),
    ],
)
def test_metrics_are_found_by_their_expressions(line: str, values: list[tuple[str, float]]) -> None:
    """The first group counts if it is a finite number. Anything else is ignored."""
    definitions = [
        {"Name": "train:loss", "Regex": "train:loss=([-+0-9.eE]+)"},
        {"Name": "valid:score", "Regex": "valid:score=([-+0-9.eEna]+)"},
        {"Name": "no group", "Regex": "epoch"},
    ]
    assert find_metrics(compile_metrics(definitions), line) == values


def test_an_unreadable_expression_is_named() -> None:
    """The error has the metric's name and what is wrong with the expression."""
    with pytest.raises(ValueError, match="metric 'x' cannot be read: missing"):
        compile_metrics([{"Name": "x", "Regex": "("}])


@given(pieces=st.lists(st.binary(max_size=12).map(lambda piece: piece.replace(b"\r", b"")), max_size=8))
def test_the_log_is_read_in_whole_lines(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    """However the output is split, every line is read once and whole. Only the last reading takes a cut line."""
    path = tmp_path_factory.mktemp("log") / "log"
    path.touch()
    reader, lines = LogReader(path), []
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        lines += reader.read()
    lines += reader.read(last=True)
    whole = b"".join(pieces).decode("utf-8", errors="replace")
    assert lines == whole.removesuffix("\n").split("\n") if whole else lines == []


def test_hyperparameters_are_read_as_json_where_they_are_json() -> None:
    """Numbers, JSON strings and plain strings are read as by SageMaker's toolkit. Its own are not arguments."""
    job = {
        "HyperParameters": {
            "epochs": "3",
            "batch_size": '"16"',
            "fine_tune": "all",
            "map": '{"b": 1, "a": 2}',
            "flag": "true",
            "x": "",
            "sagemaker_program": '"train.py"',
        }
    }
    decoded = decode_hyperparameters(job)
    assert (decoded["epochs"], decoded["batch_size"], decoded["fine_tune"]) == (3, "16", "all")
    arguments = ["--batch_size", "16", "--epochs", "3", "--fine_tune", "all", "--flag", "True", "--map", "a=2,b=1"]
    assert build_arguments(job) == [*arguments, "-x", ""]


def test_programs_inherit_the_way_to_aws_and_not_the_shell() -> None:
    """PATH and AWS_* are inherited. A prompt, a virtual environment or another tool's secret are not."""
    shell = {"PATH": "/bin", "AWS_ENDPOINT_URL": "http://x", "PS1": "$", "VIRTUAL_ENV": "/v", "OTHER_TOKEN": "t"}
    assert choose_inherited(shell) == {"PATH": "/bin", "AWS_ENDPOINT_URL": "http://x"}


def test_a_broken_log_service_is_told_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Lines that do not arrive do not affect the job."""
    stream = LogStream(client("logs", "http://127.0.0.1:9"), "group", "job/algo-1-1")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            stream.write(["a line"], datetime(2026, 1, 1, tzinfo=UTC))
    assert [record.getMessage()[:44] for record in caplog.records] == [
        "lines of job/algo-1-1 do not reach CloudWatch"[:44]
    ]


def test_the_log_of_an_ended_job_is_there_after_a_restart(local: LocalSageMaker, tmp_path: Path) -> None:
    """The log service forgets when the cloud ends. The file does not; a job without one is passed over."""
    logs, name = local.client("logs"), name_job("ended")
    (tmp_path / name).mkdir()
    (tmp_path / name / "log.txt").write_text("one\n\nlast\n")
    job = {"TrainingJobName": name, "CreationTime": datetime.now(UTC)}
    tools = Tools(None, logs, processes=None, clock=None, environment={})  # type: ignore[arg-type]
    ProcessJobRunner(tmp_path, tools).show_logs_again([job, job | {"TrainingJobName": "gone"}])
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/algo-1-")["logStreams"]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    assert [event["message"] for event in events] == ["one", " ", "last"]
