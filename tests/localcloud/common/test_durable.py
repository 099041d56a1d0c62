"""Test that state files are whole, durable and private, and that a broken one does not keep the cloud from starting."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcloud.common.addresses import Place, read_env, write_env
from localcloud.common.durable import make_private_folder, read_json, write_whole
from localcloud.common.keys import keep_credentials, keep_tokens
from localcloud.common.store import Store
from tests.localcloud.common.full_disk import fill_disk

BROKEN = (b"", b'{"name": "a", "rec', b"\0\0\0\0", b"[]", b'"text"', b"\xff\xfe")
RECORD = {"Time": datetime(2026, 1, 2, tzinfo=UTC)}


def test_a_written_file_is_private(tmp_path: Path) -> None:
    """Only the owner reads it, even where the file it replaces was open to all."""
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o644)
    write_whole(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert stat.S_IMODE(make_private_folder(tmp_path / "folder").stat().st_mode) == 0o700


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The write raises, the old content stays, and no half-written file is left."""
    path = tmp_path / "state.json"
    write_whole(path, "old")
    with fill_disk(), pytest.raises(OSError, match="File too large"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_changes_no_record(tmp_path: Path) -> None:
    """What could not be kept was not changed: memory, disk and the next start say the same."""
    store = Store(tmp_path)
    store.put("model", "m", RECORD)
    with fill_disk():
        with pytest.raises(OSError, match="File too large"):
            store.put("model", "m", RECORD | {"New": 1})
        with pytest.raises(OSError, match="File too large"):
            store.put("model", "other", RECORD)
        with pytest.raises(OSError, match="File too large"):
            store.update("model", "m", lambda record: record | {"New": 1})
    assert (store.list("model"), Store(tmp_path).list("model")) == ([RECORD], [RECORD])


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_record_is_set_aside(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """The other records are there; the message says which file it was, why, and where it is now."""
    store = Store(tmp_path)
    store.put("model", "whole", RECORD)
    store.put("model", "broken", RECORD)
    path = tmp_path / "model" / "broken.json"
    path.write_bytes(content)
    again = Store(tmp_path)
    assert again.names("model") == ("whole",)
    (aside,) = path.parent.glob("broken.json.broken-*")
    assert aside.read_bytes() == content
    told = capsys.readouterr().err
    assert str(path) in told
    assert aside.name in told
    assert Store(tmp_path).names("model") == ("whole",)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    """An unfinished write has another name, and is no record."""
    store = Store(tmp_path)
    store.put("model", "m", RECORD)
    (tmp_path / "model" / ".m.json.part-xyz").write_text('{"na')
    assert Store(tmp_path).list("model") == [RECORD]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["m.json"]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("name", ["tokens.json", "credentials.json"])
def test_broken_keys_are_made_anew(tmp_path: Path, name: str, content: bytes) -> None:
    """The old file is set aside, and the cloud has keys that it keeps."""
    (tmp_path / name).write_bytes(content)
    token, key = keep_tokens(tmp_path)["local"], keep_credentials(tmp_path)
    assert keep_tokens(tmp_path)["local"] == token
    assert keep_credentials(tmp_path) == key
    assert len(list(tmp_path.glob(f"{name}.broken-*"))) == 1


def test_every_cloud_has_its_own_key(tmp_path: Path) -> None:
    """Random, of AWS's form, told by `env` alone, and no two alike."""
    place, other = Place(tmp_path / "a"), Place(tmp_path / "b")
    write_env(place, "bucket", "token")
    key = keep_credentials(place.home)
    assert read_env(place)["AWS_ACCESS_KEY_ID"] == key.access_key_id
    assert read_env(place)["AWS_SECRET_ACCESS_KEY"] == key.secret_access_key
    assert len(key.access_key_id) == 20
    assert len(key.secret_access_key) == 40
    assert keep_credentials(other.home) != key
    for path in place.home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_file_is_nothing(tmp_path: Path) -> None:
    """It is neither an error nor set aside."""
    assert read_json(tmp_path / "none.json") is None
    assert list(tmp_path.iterdir()) == []
