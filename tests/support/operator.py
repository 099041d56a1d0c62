"""Act as an operator who deploys to a running local cloud, through the commands' entry points, in this process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure.deploying import deploy
from infrastructure.packaging.build import PROJECT, Package
from infrastructure.removing import destroy
from tests.support.local_cloud import LocalCloud

NOBODY = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
Read = Callable[[], tuple[str, str]]


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str = ""


@dataclass
class Operator:
    """`read` returns what was printed since its last call: pytest's capsys.readouterr."""

    cloud: LocalCloud
    package: Package
    read: Read

    def deploy(self, stage: str, **told: str) -> Said:
        """Run `make deploy STAGE=stage`, with parameters, tags, region, profile by name, and `anyway` if not empty."""
        return self._run(lambda words: deploy.main(words, lambda _stage: self.package), stage, told)

    def destroy(self, stage: str, **told: str) -> Said:
        """Run `make destroy STAGE=stage`; `data="delete"` is DATA=delete."""
        return self._run(destroy.main, stage, told)

    def find_stack(self, stage: str) -> dict[str, Any] | None:
        """Return the stack as CloudFormation describes it."""
        cloudformation = self.cloud.client("cloudformation")
        named = [each for each in cloudformation.describe_stacks()["Stacks"] if each["StackName"] == f"whippet-{stage}"]
        living = [each for each in named if each["StackStatus"] != "DELETE_COMPLETE"]
        return living[0] if living else None

    def read_parameters(self, stage: str) -> dict[str, str]:
        stack = self.find_stack(stage)
        assert stack is not None
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}

    @contextmanager
    def limited(self, quotas: Mapping[str, int]) -> Iterator[None]:
        """Give the account these quotas while the block runs."""
        path = self.cloud.home / "faults.json"
        half_written = path.with_suffix(".part")
        half_written.write_text(json.dumps({"quotas": quotas}))
        half_written.replace(path)
        try:
            yield
        finally:
            path.unlink()

    def _run(self, main: Callable[[list[str]], int], stage: str, told: dict[str, str]) -> Said:
        words = ["--stage", stage]
        for name, value in told.items():
            words += [f"--{name}"] if name == "anyway" else [f"--{name}", value]
        self.read()
        return Said(main(words), *self.read())


def describe_terminal(cloud: LocalCloud) -> dict[str, str]:
    """Return the variables of an operator's terminal in which AWS is this cloud."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | NOBODY | {name: value for name, value in cloud.variables.items() if name.startswith("AWS_")}


def make(cloud: LocalCloud, *words: str) -> Said:
    """Run `make` in the project's folder."""
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=PROJECT,
        env=describe_terminal(cloud),
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def find_package(folder: Path) -> Package:
    """Return what `make package` left in a folder."""
    (code,), (source,) = folder.glob("lambda-*.zip"), folder.glob("sourcedir-*.tar.gz")
    return Package(folder / "template.json", code, source)
