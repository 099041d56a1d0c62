"""The `whippet` command as a person or a script runs it, against an API of a few canned answers, and without one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator
from setuptools import find_namespace_packages

from client import predicting
from tests.support.layouts import pack, picture
from tests.support.pictures import build_colour_zip

ROOT = Path(__file__).parents[2]
RUN = {
    "run_id": "whippet-dev-dogs-1", "dataset": "dogs", "status": "deployed", "reason": None, "attempt": 1,
    "created_at": "2026-11-27T10:00:00+00:00", "recipe": {"trials": 2}, "best": None,
    "decision": {"promotion": {"sentence": "This model goes live: no other of this dataset does."}},
    "metrics": {
        "valid": {"accuracy": 0.99},
        "test": {
            "accuracy": 0.9871, "images": 350, "interval": [0.9694, 0.9946],
            "classes": [{"class": "pug", "recall": 0.9, "support": 20}, {"class": "husky", "recall": 1, "support": 9}],
        },
    },
    "accuracy": 0.9871, "images": 1797, "seconds": 402, "spent_usd": 0.004,
    "shipped": "Deployed: trial 1. It scored 97.0%.",
    "advice": ["add images of pug", "try again (whippet retry whippet-dev-dogs-1)"],
    "trials": [
        {"name": "x-001-abc", "status": "Completed", "objective": 0.97, "hyperparameters": {"batch_size": "16"}},
        {"name": "x-002-def", "status": "Failed", "objective": None, "hyperparameters": {"batch_size": "32"}},
    ],
    "cost": {"spent_usd": 0.1, "expected_usd": 0.2, "worst_usd": 2.0}, "links": {"folder": "f", "model": "m", "report": "https://r/x"},
}  # fmt: skip
CURVES = {
    "jobs": [
        {
            "name": "x-001-abc",
            "epochs": [{"epoch": 1, "train": {"loss": 0.5}, "valid": {"accuracy": 0.97}}],
            "best": {"epoch": 1},
        }
    ]
}
RESULTS = [
    {"name": "a.jpg", "predictions": [{"class": "husky", "probability": 0.9}, {"class": "pug", "probability": 0.1}]}
]
MAP = {"class": "husky/grey", "image": "data:image/png;base64,cGljdHVyZQ=="}


Done = subprocess.CompletedProcess[str]


class Handler(BaseHTTPRequestHandler):
    """The API and the bucket in one. What was PUT is kept in `sent`."""

    sent: bytearray = bytearray()
    refusals: ClassVar[list[int]] = []  # statuses that the next PUTs are answered with
    recipe: bytes = b""
    asked: ClassVar[list[bytes]] = []  # bodies of the predictions

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": {"code": code, "message": message}})

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer good":
            self.refuse(401, "Unauthorized", "The token is unknown.")
        elif self.path.startswith("/api/runs?"):
            self.answer(200, {"runs": [RUN], "next": None})
        elif self.path == "/api/runs/whippet-dev-dogs-1":
            self.answer(200, RUN)
        elif self.path == "/api/runs/whippet-dev-dogs-1/curves":
            self.answer(200, CURVES)
        elif self.path.startswith("/api/runs/whippet-dev-dogs-1/log?"):
            self.answer(200, {"job": "x-001-abc", "lines": ["first [1/2]", "last"]})
        elif self.path == "/api/uploads/0123":
            self.answer(200, {"parts": self.list_parts()})
        elif self.path.startswith("/api/weights?"):
            self.answer(200, {"architecture": "resnet18", "state": "missing", "message": "No [weights] were found."})
        elif self.path == "/api/models":
            self.answer(200, {"models": [{"name": "dogs", "status": "ready", "created_at": RUN["created_at"]}]})
        else:
            self.refuse(404, "RunNotFound", "There is no run 'x'. GET /runs lists them.")

    def list_parts(self) -> list[dict[str, Any]]:
        return [{"number": each, "size": 1000, "url": f"http://{self.headers['Host']}/bucket"} for each in (1, 2)]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/uploads" and json.loads(body)["name"] == "large":
            self.answer(201, {"id": "0123", "parts": self.list_parts(), "complete": "uploads/0123/complete"})
            return
        if self.path == "/api/uploads/0123/complete":
            self.answer(200, {"id": "0123", "key": "datasets/large.zip"})
            return
        if self.path == "/api/datasets/dogs/recipe":
            Handler.recipe = body
            self.answer(200, {"recipe": {}})
            return
        if self.path == "/api/uploads":
            told = json.loads(body) | {
                "id": "4567",
                "key": "datasets/dogs.zip",
                "url": f"http://{self.headers['Host']}/bucket",
            }
            self.answer(201, told)
        elif "/predict" in self.path:
            explained = {"explanation": MAP} if "explain=true" in self.path else {}
            Handler.asked.append(body)
            if b"no image" in body:
                self.refuse(422, "UnreadableImage", "The body is not an image.")
                return
            results = [RESULTS[0] | explained] * max(1, body.count(b"filename="))
            self.answer(200, {"results": results, "run_id": "r", "milliseconds": 1})
        else:
            self.answer(202, {"run_id": "whippet-dev-dogs-1", "status": "stopping"})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Handler.refusals:
            self.answer(Handler.refusals.pop(), {})
            return
        Handler.sent += body
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()


def whippet(
    *arguments: object, token: str = "good", url: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with a terminal of 160 columns."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"COLUMNS": "160", "API_URL": url, "API_TOKEN": token, **variables}
    command = [sys.executable, "-m", "client.main", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_runs_and_models_are_listed(url: str) -> None:
    """As a table for people, and as the API's JSON for programs."""
    row = whippet("runs", url=url).stdout.splitlines()[1].split()
    assert row[:8] == ["whippet-dev-dogs-1", "dogs", "deployed", "98.7%", "1,797", "7", "min", "<$0.01"]
    assert json.loads(whippet("runs", "--json", url=url).stdout)[0]["dataset"] == "dogs"
    assert "ready" in whippet("models", url=url).stdout


def test_a_run_is_shown_with_its_score_and_trials(url: str) -> None:
    """Accuracy has the form that it has everywhere: 98.7%."""
    shown = whippet("run", "whippet-dev-dogs-1", url=url).stdout
    assert "Accuracy 98.7% of 350 test images, 95% sure: 96.9% to 99.5%" in shown
    assert "Weakest class pug: 90.0% of its 20 test images right" in shown
    assert "This model goes live: no other of this dataset does." in shown
    assert "Next: add images of pug; try again (whippet retry whippet-dev-dogs-1)." in shown
    assert "Deployed: trial 1. It scored 97.0%." in shown
    assert "batch_size=16" in shown
    assert "Cost: $0.10, expected $0.20." in shown


def test_a_price_on_this_machine_is_awss() -> None:
    """Nobody is charged there, and the price says so."""
    from client.rendering import tell_cost

    cost = {"spent_usd": 0.004, "expected_usd": 0.2, "billed": False}
    assert tell_cost({"status": "tuning", "cost": cost}) == (
        "Cost so far: free here; on AWS under $0.01, expected $0.20."
    )


def test_the_canned_run_is_one_that_the_api_may_answer() -> None:
    """The schema that `openapi.json` publishes takes it."""
    schemas = json.loads((ROOT / "openapi.json").read_text())["components"]["schemas"]
    validator = Draft202012Validator({"$ref": "#/components/schemas/Run", "components": {"schemas": schemas}})
    assert [error.message for error in validator.iter_errors(RUN)] == []


def test_a_runs_log_is_printed_as_it_is(url: str) -> None:
    """Its last lines: brackets are no markup."""
    assert whippet("run", "whippet-dev-dogs-1", "--logs", url=url).stdout == "first [1/2]\nlast\n"


def test_a_runs_jobs_tell_what_they_measured(url: str) -> None:
    """A line for each epoch of each job."""
    lines = whippet("run", "whippet-dev-dogs-1", "--curves", url=url).stdout.splitlines()
    assert lines[0].split() == ["x-001-abc", "epoch", "1", "train", "loss", "0.5000", "valid", "accuracy", "97.0%"]
    assert lines[-1] == "x-001-abc  best epoch 1"
    assert json.loads(whippet("run", "whippet-dev-dogs-1", "--curves", "--json", url=url).stdout) == CURVES


@pytest.mark.parametrize("verb", ["stop", "retry", "approve"])
def test_what_is_asked_of_a_run_is_answered_in_a_sentence(url: str, verb: str) -> None:
    """It names the run."""
    done = whippet(verb, "whippet-dev-dogs-1", url=url)
    assert done.returncode == 0, done.stderr
    assert "whippet-dev-dogs-1" in done.stdout


def test_images_are_classified(url: str, tmp_path: Path) -> None:
    """The best class first, with its probability."""
    (tmp_path / "a.jpg").write_bytes(picture())
    done = whippet("predict", "dogs", tmp_path / "a.jpg", url=url)
    assert "husky" in done.stdout
    assert "90.0%" in done.stdout


def test_photos_of_a_camera_are_classified_whatever_their_size(url: str, tmp_path: Path) -> None:
    """Those that do not fit into one request go in several; one that fits into none goes by way of the bucket."""
    for name, size in (("a", 2_500_000), ("b", 2_500_000), ("c", 5_000_000), ("d", 10)):
        (tmp_path / f"{name}.jpg").write_bytes(picture().ljust(size, b"\0"))
    (tmp_path / "e.jpg").write_bytes(b"no image".ljust(3_999_999))
    Handler.sent.clear()
    Handler.asked.clear()
    done = whippet("predict", "dogs", *(tmp_path / f"{name}.jpg" for name in "abcde"), url=url)
    shown = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert shown == [[f"{name}.jpg", "–" if name == "e" else "husky"] for name in "abcde"]
    assert done.returncode == 1  # as one of them has no answer
    assert [len(body) > 4_200_000 for body in Handler.asked] == [False] * 5
    assert json.loads(Handler.asked[2]) == {"images": [{"upload": "4567"}]}
    assert len(Handler.sent) == 5_000_000


def test_names_are_shown_as_they_are(url: str, tmp_path: Path) -> None:
    """Brackets and colons are parts of names, not styles or signs."""
    paths = [tmp_path / name for name in ("dog [red].jpg", "a:dog:.jpg")]
    for path in paths:
        path.write_bytes(picture())
    done = whippet("predict", "dogs", *paths, "--explain", tmp_path / "maps", url=url)
    assert done.returncode == 0, done.stderr
    for path in paths:
        assert path.name in done.stdout
        assert f"{path.name}: {tmp_path}" in done.stderr.replace("\n", "")


def test_maps_of_what_decided_are_kept_as_files(url: str, tmp_path: Path) -> None:
    """In the folder that is named, under the image's name and its class."""
    (tmp_path / "a.jpg").write_bytes(picture())
    done = whippet("predict", "dogs", tmp_path / "a.jpg", "--explain", tmp_path / "maps", url=url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps/a-husky_grey.png").read_bytes() == b"picture"
    assert "a-husky_grey.png" in done.stderr.replace("\n", "")


def test_no_map_takes_the_place_of_another(tmp_path: Path) -> None:
    """Images of several folders may have one name; a map of an earlier call is replaced."""
    paths = [tmp_path / name for name in ("cats/1.jpg", "dogs/1.jpg", "dogs/1.png", "dogs/2.png")]
    results = [{"explanation": MAP | {"class": label}} for label in ("a", "a", "a", "b")]
    for _ in range(2):
        written = predicting.write_maps(tmp_path / "maps", paths, results)
        assert [path and path.name for path in written] == ["1-a.png", "1-a-2.png", "1-a-3.png", "2-b.png"]
    assert len(list((tmp_path / "maps").iterdir())) == 4


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_zip_or_a_folder_is_uploaded(url: str, tmp_path: Path, as_folder: bool) -> None:
    """Of a folder, hidden files and litter stay behind."""
    path = tmp_path / "dogs.zip"
    path.write_bytes(build_colour_zip())
    if as_folder:
        path = tmp_path / "dogs"
        for name in ("red/1.png", "green/2.png", ".git/config", "red/Thumbs.db"):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(picture())
    Handler.sent.clear()
    done = whippet("upload", path, url=url)
    assert done.returncode == 0, done.stderr
    assert Handler.sent.startswith(b"PK")
    assert b"red/" in Handler.sent
    assert b".git" not in Handler.sent
    assert b"Thumbs" not in Handler.sent


def test_a_part_that_is_refused_for_now_is_sent_again(url: str, tmp_path: Path) -> None:
    """After a server's error, and with a new address where the old one has expired. The bytes arrive once."""
    path = tmp_path / "large.zip"
    path.write_bytes(bytes(range(200)) * 10)
    Handler.sent.clear()
    Handler.refusals[:] = [403, 503]
    done = whippet("upload", path, "--json", url=url)
    assert done.returncode == 0, done.stderr
    assert Handler.sent == path.read_bytes()
    assert json.loads(done.stdout)["key"] == "datasets/large.zip"


def test_a_recipe_goes_before_the_upload(url: str, tmp_path: Path) -> None:
    """The run begins with it."""
    path, recipe = tmp_path / "dogs.zip", tmp_path / "my.json"
    path.write_bytes(build_colour_zip())
    recipe.write_text('{"trials": 2}')
    assert whippet("upload", path, "--recipe", recipe, url=url).returncode == 0
    assert json.loads(Handler.recipe) == {"trials": 2}


def test_a_start_from_scratch_is_told_before_anything_is_sent(url: str, tmp_path: Path) -> None:
    """Where the images are few; not where the recipe wants no weights. It is on stderr, so that programs read JSON."""
    path, recipe = tmp_path / "dogs.zip", tmp_path / "my.json"
    path.write_bytes(build_colour_zip())
    recipe.write_text('{"pretrained": "none"}')
    done = whippet("upload", path, "--json", url=url)
    assert "No [weights] were found." in done.stderr
    assert json.loads(done.stdout)["key"] == "datasets/dogs.zip"
    assert "weights" not in whippet("upload", path, "--recipe", recipe, url=url).stderr


def test_an_upload_is_followed_to_its_end(url: str) -> None:
    """`run --watch` ends when the run has; its progress is on stderr."""
    done = whippet("run", "whippet-dev-dogs-1", "--watch", url=url)
    assert done.returncode == 0
    assert "deployed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "token", "code"),
    [
        (["run", "x"], "good", 1),
        (["runs"], "bad", 3),
        (["upload", "/no/such.zip"], "good", 2),
        (["upload", __file__], "good", 2),
        (["nothing"], "good", 2),
    ],
)
def test_exit_codes_tell_programs_what_went_wrong(url: str, arguments: list[str], token: str, code: int) -> None:
    """The reason is a sentence on stderr, and there is no traceback."""
    done = whippet(*arguments, token=token, url=url)
    assert done.returncode == code
    assert done.stderr.strip()
    assert "GET /runs" not in done.stderr  # the command line has a command for it
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_api_that_does_not_answer_has_a_code_of_its_own() -> None:
    """A script may try again later."""
    done = whippet("runs", url="http://127.0.0.1:9/api")
    assert done.returncode == 4
    assert "does not answer" in done.stderr


def test_a_login_is_kept_for_its_owner_alone(url: str, tmp_path: Path) -> None:
    """A pasted header is understood, and the file's mode is 600."""
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    done = whippet("login", "--url", url, "--token", "Bearer good", token="", **variables)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "whippet/login.json").stat().st_mode & 0o777 == 0o600
    assert "dogs" in whippet("models", token="", **variables).stdout
    address = f"{url}/#token=good"  # as `make up` prints it: nothing more is asked for
    assert whippet("login", "--url", address, token="", XDG_CONFIG_HOME=str(tmp_path / "other")).returncode == 0


def test_without_a_login_it_says_what_to_do(tmp_path: Path) -> None:
    """And asks nobody."""
    done = whippet("runs", token="", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 3
    assert "whippet login" in done.stderr


def test_a_dataset_is_checked_without_a_server(tmp_path: Path) -> None:
    """As pre-flight checks it: counts by class, and exit code 1 for one that would be rejected."""
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    good.write_bytes(build_colour_zip())
    bad.write_bytes(pack({"train/one/1.png": picture()}))
    assert json.loads(whippet("datasets", "check", good, "--json").stdout)["ok"]
    done = whippet("datasets", "check", bad)
    assert done.returncode == 1
    assert "not accepted" in done.stdout


def test_a_recipe_is_written_and_checked_without_a_server(tmp_path: Path) -> None:
    """The one that it writes is sound, every problem of a wrong one is told, and no file is replaced."""
    path = tmp_path / "dogs.json"
    assert whippet("recipe", "new", path).returncode == 0
    assert whippet("recipe", "check", path).returncode == 0
    assert whippet("recipe", "new", path).returncode == 2
    path.write_text('{"trials": 0, "epoch": 3}')
    done = whippet("recipe", "check", path)
    assert done.returncode == 1
    assert "trials" in done.stdout
    assert "epoch" in done.stdout
    assert not json.loads(whippet("recipe", "check", path, "--json").stdout)["ok"]


def test_what_is_installed_is_whole(tmp_path: Path) -> None:
    """`pip install .` takes some of our packages, and the command needs no other."""
    chosen = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for package in find_namespace_packages(str(ROOT), include=chosen):
        (tmp_path / package.replace(".", "/")).mkdir(parents=True)
        for path in [
            *(ROOT / package.replace(".", "/")).glob("*.py"),
            *(ROOT / package.replace(".", "/")).glob("*.json"),
        ]:
            shutil.copy(path, tmp_path / package.replace(".", "/"))
    (tmp_path / "good.zip").write_bytes(build_colour_zip())
    for arguments in (["datasets", "check", "good.zip"], ["recipe", "new", "a.json"], ["recipe", "check", "a.json"]):
        command = [sys.executable, "-P", "-m", "client.main", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()


def test_every_command_says_what_it_does_and_prints_json() -> None:
    """Each has a sentence, a help for each option, and --json."""
    from typer.main import get_command

    from client.main import app

    found = list(list_commands(get_command(app)))
    assert len(found) == 13
    for command in found:
        assert command.help, command.name
        options = [each for each in command.params if each.param_type_name == "option"]
        assert [each.name for each in options if not each.help] == [], command.name
        assert any("--json" in each.opts for each in options), command.name


def test_the_documentation_names_commands_and_options_that_are_there() -> None:
    """Each line of the docs that begins with `whippet`."""
    from typer.main import get_command

    from client.main import app

    lines = re.findall(r"^whippet (.*?)(?:\s+#.*)?$", (ROOT / "docs/command.md").read_text(), re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        command: Any = get_command(app)
        for word in line.split():
            command = getattr(command, "commands", {}).get(word, command)
        options = {option for each in command.params for option in each.opts} | {"--install-completion"}
        assert not hasattr(command, "commands"), line
        assert {word for word in line.split() if word.startswith("--")} <= options, line


def list_commands(command: Any) -> Iterator[Any]:
    for each in command.commands.values():
        yield from list_commands(each) if hasattr(each, "commands") else [each]


def test_the_command_is_light() -> None:
    """It needs neither torch nor boto3, so that it can be installed in seconds."""
    program = "import sys, client.main; print(sorted({'torch', 'boto3', 'sagemaker', 'chalice'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
