"""What the demo suggests at its end: commands on files that exist, and last the page's address."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest

from localcloud.cli.demo import read_told
from localcloud.cli.next_steps import Left, keep_image, list_next
from localcloud.cli.questions import Picture
from localcloud.common.addresses import CannotStart, Place, choose_free, listen

FOLDER = "s3://bucket/runs/whippet-local-dogs-1/"


@pytest.fixture
def left(tmp_path: Path) -> Left:
    (tmp_path / "dogs.zip").write_bytes(b"zip")
    (tmp_path / "env").touch()
    image = keep_image(Picture("dogs/test/pug/9.JPG", "pug", b"jpeg"), tmp_path / "demo")
    return Left(Place(tmp_path), tmp_path / "dogs.zip", "dogs", FOLDER, image, stays_up=True)


def test_every_file_that_is_named_is_there(left: Left) -> None:
    """Commands can be copied as they are: what they read exists."""
    words = [word.removeprefix("@") for line in list_next(left) for word in shlex.split(line, comments=True)]
    named = [Path(word) for word in words if word.startswith("/")]
    assert {path.name for path in named} == {"env", "dogs.zip", "pug.jpg"}
    assert all(path.is_file() for path in named)


def test_the_pages_address_comes_last(left: Left) -> None:
    """With the port that the cloud has; where the cloud ends with the demo, after the command that starts it again."""
    told = Left(Place(left.place.home, port=9000), left.dataset, "dogs", FOLDER, left.image, stays_up=False)
    lines = list(list_next(told))
    assert lines[0].startswith(f"LOCALCLOUD_HOME={left.place.home} PORT=9000 make up")
    assert lines[-1] == "Open http://127.0.0.1:9000/ in a browser after make up."
    assert list(list_next(left))[-1] == "Open http://127.0.0.1:8000/ in a browser."


def test_a_port_that_is_taken_is_left_to_its_owner(tmp_path: Path) -> None:
    """The demo runs beside another cloud or program; a port that the user named is not replaced in silence."""
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = owner.getsockname()[1]
        place = choose_free(Place(tmp_path, aws_port=taken, port=taken), {})
        assert taken not in (place.aws_port, place.port)
        listen(place.port, "PORT").close()
        assert choose_free(Place(tmp_path, port=taken), {"PORT": str(taken)}).port == taken
        with pytest.raises(CannotStart, match=f"Port {taken}"):
            listen(taken, "PORT")


def test_a_cloud_that_is_up_tells_its_own_ports(tmp_path: Path) -> None:
    """It may have been started with others than this command's."""
    variables = {"AWS_ENDPOINT_URL": "http://127.0.0.1:5566", "API_URL": "http://127.0.0.1:9000/api"}
    assert read_told(Place(tmp_path), variables) == Place(tmp_path, 5566, 9000)
