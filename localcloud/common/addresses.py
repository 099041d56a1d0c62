"""Define where a local cloud lives: its folder, its ports, and the variables by which programs find it."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from localcloud.common.durable import write_whole
from localcloud.common.keys import keep_credentials

AWS_PORT, PORT, REGION = 4566, 8000, "us-east-1"


class CannotStart(Exception):
    """The local cloud cannot start here; the message says why and what to do."""


@dataclass(frozen=True)
class Place:
    """One local cloud: the folder of its state and its two ports of 127.0.0.1."""

    home: Path
    aws_port: int = AWS_PORT
    port: int = PORT

    @property
    def aws_url(self) -> str:
        return f"http://127.0.0.1:{self.aws_port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def env_file(self) -> Path:
        return self.home / "env"

    @property
    def sdk_file(self) -> Path:
        return self.home / "sagemaker.yaml"

    @property
    def lock_file(self) -> Path:
        return self.home / "lock"


def read_place(environ: Mapping[str, str]) -> Place:
    """Return the place that LOCALCLOUD_HOME, AWS_PORT and PORT name. Raises CannotStart for an invalid port."""
    home = Path(environ.get("LOCALCLOUD_HOME") or ".localcloud").absolute()
    return Place(home, read_port(environ, "AWS_PORT", AWS_PORT), read_port(environ, "PORT", PORT))


def read_port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise CannotStart(f"{name} is {text!r}, and must be a port: a whole number from 1 to 65535.")
    return int(text)


def listen(port: int, variable: str) -> socket.socket:
    """Return a listening socket of 127.0.0.1. Raises CannotStart where the port is taken."""
    # asyncio switches Nagle's delay off only where the protocol is named; with it, each small answer takes 40 ms longer
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        message = (
            f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}). Take another: {variable}={port + 1} make up"
        )
        raise CannotStart(message) from error
    return listener


def choose_free(place: Place, environ: Mapping[str, str]) -> Place:
    """Return a place whose ports are free: another program may have the usual ones. Ports that were named are kept."""
    aws_port = place.aws_port if environ.get("AWS_PORT") or is_free(place.aws_port) else find_free()
    port = place.port if environ.get("PORT") or is_free(place.port) else find_free()
    return replace(place, aws_port=aws_port, port=port)


def is_free(port: int) -> bool:
    try:
        listen(port, "").close()
    except CannotStart:
        return False
    return True


def find_free() -> int:
    """Return a port that the system says is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def describe_aws(place: Place) -> dict[str, str]:
    """Return the variables by which every AWS SDK and the CLI find the local cloud, with the keys that it accepts."""
    held = keep_credentials(place.home)
    return {
        "AWS_ENDPOINT_URL": place.aws_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": held.access_key_id,
        "AWS_SECRET_ACCESS_KEY": held.secret_access_key,
    }


def enter(place: Place, environ: MutableMapping[str, str] = os.environ) -> None:
    """Point this process, and all that it starts, at the local cloud and at no other AWS."""
    for name in [name for name in environ if name.startswith("AWS_")]:
        del environ[name]
    environ.update(describe_aws(place))
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environ.update(nowhere | {"AWS_EC2_METADATA_DISABLED": "true"})


def describe_sdk(place: Place) -> dict[str, str]:
    """Return what AWS's `sagemaker` SDK also needs: no look-up of a role in IAM, and settings other than the user's."""
    return {"SAGEMAKER_VALIDATE_ROLE": "false", "SAGEMAKER_USER_CONFIG_OVERRIDE": str(place.sdk_file)}


def write_sdk_settings(place: Place, bucket: str) -> None:
    """Write the `sagemaker` SDK's settings: a bucket for its uploads, because it would ask the real STS for the name of
    its own, and no usage reports to AWS. JSON is YAML."""
    modules = {"Session": {"DefaultS3Bucket": bucket, "DefaultS3ObjectKeyPrefix": "sdk"}, "TelemetryOptOut": True}
    settings = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": modules}}}
    write_whole(place.sdk_file, json.dumps(settings, indent=2) + "\n")


def write_env(place: Place, bucket: str, token: str) -> None:
    """Write the file that a user sources. It holds keys and a token, so only its owner may read it."""
    app = {"BUCKET": bucket, "API_URL": place.api_url, "API_TOKEN": token}
    variables = describe_aws(place) | app | describe_sdk(place)
    write_sdk_settings(place, bucket)
    programs = shlex.quote(str(Path(sys.executable).parent))
    lines = [
        "unset AWS_PROFILE AWS_SESSION_TOKEN",
        f'command -v aws >/dev/null || PATH="$PATH":{programs}  # the CLI that came with this project',
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    write_whole(place.env_file, "\n".join(lines) + "\n")


def read_env(place: Place) -> dict[str, str]:
    """Return the variables that the env file exports."""
    words = [shlex.split(line, comments=True) for line in place.env_file.read_text().splitlines()]
    return dict(word[1].split("=", 1) for word in words if word[:1] == ["export"])
