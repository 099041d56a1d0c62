"""Say what can be done after the demo, naming only files and addresses that exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localcloud.cli.questions import Picture
from localcloud.common.addresses import Place


@dataclass(frozen=True)
class Left:
    """What a demo leaves: the dataset's zip and name, the run's folder in S3, and an image of the test split.

    stays_up: whether the cloud goes on after the demo.
    """

    place: Place
    dataset: Path
    name: str
    folder: str
    image: Path
    stays_up: bool


def keep_image(picture: Picture, folder: Path) -> Path:
    """Write an image of the test split where a command can name it. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{picture.true_class}{Path(picture.name).suffix.lower()}"
    path.write_bytes(picture.body)
    return path


def list_next(left: Left) -> Iterator[str]:
    """Yield the lines: the page's address comes last, where it is seen."""
    image, dataset = shorten(left.image), shorten(left.dataset)
    settings = list_settings(left.place)
    if not left.stays_up:
        yield f"{settings}make up   # the local cloud again, until Ctrl-C; then, in another terminal:"
    yield f". {shorten(left.place.env_file)}"
    yield f"aws s3 ls --recursive {left.folder}"
    yield f"aws s3 cp {dataset} s3://$BUCKET/datasets/again.zip   # or a zip of your own, with a folder for each class"
    yield (
        f'curl -H "Authorization: Bearer $API_TOKEN" --data-binary @{image} $API_URL/models/{left.name}/predict?top=3'
    )
    yield f"Open {left.place.page_url} in a browser{'' if left.stays_up else ' after make up'}."


def list_settings(place: Place) -> str:
    """Return the variables by which a command finds this cloud, if they are not the usual ones."""
    usual = Place(Path(".localcloud").absolute())
    chosen = {
        "LOCALCLOUD_HOME": (shorten(place.home), place.home != usual.home),
        "AWS_PORT": (str(place.aws_port), place.aws_port != usual.aws_port),
        "PORT": (str(place.port), place.port != usual.port),
    }
    return "".join(f"{name}={value} " for name, (value, differs) in chosen.items() if differs)


def shorten(path: Path) -> str:
    """Return a path as short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
