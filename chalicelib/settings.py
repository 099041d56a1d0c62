"""What the functions are told by their environment: typed, read once, never at import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from chalicelib.errors import InvalidSettings

DEBUGGER_MODES = ("off", "monitoring", "full")
MAX_PREFIX = 32 - len("-x-12345678")  # a tuning job's name has 32 characters, and a slug has one at least
NAME_PART = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Settings:
    """The environment of one function. Each field is the variable of the same name in capitals.

    Fields without a default must be set. Sizes are in bytes, times in seconds. `weights_uri`, `topic_arn` may be empty:
    then jobs have no weights channel, and nobody is mailed.
    """

    bucket: str
    execution_role_arn: str
    tokens_secret_id: str
    training_image: str
    inference_image: str
    code_uri: str
    app_name: str = "whippet"
    stage: str = "dev"
    aws_region: str = "us-east-1"
    topic_arn: str = ""
    weights_uri: str = ""
    trial_instance_type: str = "ml.m5.xlarge"
    training_instance_type: str = "ml.m5.xlarge"
    endpoint_instance_type: str = "ml.m5.large"
    debugger_mode: str = "off"
    debugger_rules_image: str = ""
    volume_gb: int = 30
    dataset_max_bytes: int = 20_000_000_000
    dataset_max_images: int = 500_000
    dataset_max_classes: int = 1_000
    image_max_bytes: int = 4_400_000
    upload_seconds: int = 3_600

    @property
    def prefix(self) -> str:
        """What every name of this app and stage begins with: `APP-STAGE-`."""
        return f"{self.app_name}-{self.stage}-"

    @property
    def bucket_uri(self) -> str:
        return f"s3://{self.bucket}"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that an environment holds. Raises InvalidSettings naming every variable that is amiss."""
    values: dict[str, str | int] = {}
    problems: list[str] = []
    for field in fields(Settings):
        variable = field.name.upper()
        text = environ.get(variable, "").strip()
        if text:
            values[field.name] = _convert(text, variable, field.type, problems)
        elif field.default is MISSING:
            problems.append(f"{variable} is not set")
    problems += _check_names(environ) + _check_debugger(environ)
    if problems:
        raise InvalidSettings(f"The function's environment cannot be used: {'; '.join(problems)}.")
    return Settings(**values)  # type: ignore[arg-type]


def _convert(text: str, variable: str, kind: object, problems: list[str]) -> str | int:
    if kind != "int":
        return text
    if not text.isdecimal():
        problems.append(f"{variable} is {text!r}, and must be a whole number")
        return 0
    return int(text)


def _check_names(environ: Mapping[str, str]) -> list[str]:
    app, stage = environ.get("APP_NAME") or Settings.app_name, environ.get("STAGE") or Settings.stage
    problems = [
        f"{variable} is {value!r}, and may hold lower-case letters, digits and inner hyphens alone"
        for variable, value in (("APP_NAME", app), ("STAGE", stage))
        if not NAME_PART.fullmatch(value)
    ]
    if len(f"{app}-{stage}") > MAX_PREFIX:
        length = len(app + stage)
        problems.append(f"APP_NAME and STAGE have {length} characters together, and may have {MAX_PREFIX - 1}")
    return problems


def _check_debugger(environ: Mapping[str, str]) -> list[str]:
    mode = environ.get("DEBUGGER_MODE", "").strip() or Settings.debugger_mode
    return [] if mode in DEBUGGER_MODES else [f"DEBUGGER_MODE is {mode!r}, and must be one of {DEBUGGER_MODES}"]
