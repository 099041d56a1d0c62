"""Read the functions' settings from their environment: typed, read once, never at import."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from chalicelib.errors import InvalidSettings
from chalicelib.recipes.instances import find_list_problems

DEBUGGER_MODES = ("off", "monitoring", "full")
MAX_PREFIX = 32 - len("-x-12345678")  # a tuning job's name has at most 32 characters, and a slug at least one
MAX_COST_TAGS = 40
TAG = re.compile(r"[\w .:/=+\-@]*")
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")
NAME_PART = re.compile(r"[a-z0-9]+")  # a hyphen would let one stage's names begin like another's


@dataclass(frozen=True)
class Settings:
    """The environment of one function. Each field is the variable of the same name in capitals.

    Fields without a default must be set; an empty variable counts as not set. Lists are comma-separated, booleans are
    `true` or `false`, `cost_tags` is a JSON object of strings. Sizes are in bytes, times in seconds. Instance types are
    in order of preference. `weights_uri`, `topic_arn`, `subnet_ids` and `kms_key_arn` may be empty: then jobs have no
    weights channel, no mail is sent, nothing is in a VPC, and AWS's own keys encrypt. `page_url` is where reports link
    back to; empty for the address at which the routes are asked. Unless jobs are `billed`, dollars are told as what AWS
    would charge. A `monthly_cap_usd` of 0 means no cap. `max_parallel_trials`, `max_training_instances` and
    `max_serverless_memory_mb` are the account's limits as the deployment found them; 0 means unknown.
    """

    bucket: str
    execution_role_arn: str
    tokens_secret_id: str
    training_image_cpu: str
    training_image_gpu: str
    inference_image_cpu: str
    inference_image_gpu: str
    code_uri: str
    app_name: str = "whippet"
    stage: str = "dev"
    aws_region: str = "us-east-1"
    topic_arn: str = ""
    weights_uri: str = ""
    page_url: str = ""
    trial_instance_types: tuple[str, ...] = ("ml.g4dn.xlarge", "ml.g5.xlarge")
    training_instance_types: tuple[str, ...] = ("ml.g4dn.xlarge", "ml.g5.xlarge")
    endpoint_instance_types: tuple[str, ...] = ("ml.m5.large",)
    use_spot: bool = True
    billed: bool = True
    monthly_cap_usd: float = 200.0
    max_parallel_trials: int = 0
    max_training_instances: int = 0
    max_serverless_memory_mb: int = 0
    cost_tags: Mapping[str, str] = field(default_factory=dict)
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    kms_key_arn: str = ""
    debugger_mode: str = "off"
    debugger_rules_image: str = ""
    volume_gb: int = 30
    dataset_max_bytes: int = 20_000_000_000
    dataset_max_images: int = 500_000
    dataset_max_classes: int = 1_000
    image_max_bytes: int = 4_000_000
    upload_seconds: int = 3_600
    cors_origins: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """Return what every name of this app and stage begins with: `APP-STAGE-`."""
        return f"{self.app_name}-{self.stage}-"

    @property
    def bucket_uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def in_vpc(self) -> bool:
        """Return whether jobs and endpoints are in a VPC; if so, no endpoint is serverless."""
        return bool(self.subnet_ids)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that an environment holds. Raises InvalidSettings naming every variable that is wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for each in fields(Settings):
        variable = each.name.upper()
        text = environ.get(variable, "").strip()
        try:
            if text:
                values[each.name] = READERS[str(each.type)](text)
            elif each.default is MISSING and each.default_factory is MISSING:
                problems.append(f"{variable} is not set")
        except ValueError as error:
            problems.append(f"{variable} is {text!r}, and must be {error}")
    problems += _check_names(environ) + _check_debugger(environ) + _check_machines(values)
    problems += _check_network(values) + _check_tags(values) + _check_origins(values)
    if problems:
        raise InvalidSettings(f"The function's environment cannot be used: {'; '.join(problems)}.")
    return Settings(**values)


def read_origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the origins of other sites whose pages may call the API: CORS_ORIGINS, without malformed ones."""
    return tuple(each for each in _read_list(environ.get("CORS_ORIGINS", "")) if ORIGIN.fullmatch(each))


def _check_origins(values: Mapping[str, Any]) -> list[str]:
    wrong = [each for each in values.get("cors_origins", ()) if not ORIGIN.fullmatch(each)]
    return [f"CORS_ORIGINS has {each!r}, and must list origins such as https://example.com" for each in wrong]


def _read_whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a whole number")
    return int(text)


def _read_amount(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        raise ValueError("a number of 0 or more")
    return float(text)


def _read_truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_texts(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError('a JSON object of text, such as {"team": "vision"}')
    return found


READERS: Mapping[str, Callable[[str], Any]] = {  # by the type that a field is declared with
    "str": str,
    "int": _read_whole,
    "float": _read_amount,
    "bool": _read_truth,
    "tuple[str, ...]": _read_list,
    "Mapping[str, str]": _read_texts,
}


def _check_names(environ: Mapping[str, str]) -> list[str]:
    app, stage = environ.get("APP_NAME") or Settings.app_name, environ.get("STAGE") or Settings.stage
    problems = [
        f"{variable} is {value!r}, and may hold lower-case letters and digits alone"
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


def _check_machines(values: Mapping[str, Any]) -> list[str]:
    uses = ("trial", "training", "endpoint")
    lists = {use: values.get(f"{use}_instance_types", ()) for use in uses}
    return [
        f"{use.upper()}_INSTANCE_TYPES is {','.join(types)!r}, where {problem}"
        for use, types in lists.items()
        for problem in find_list_problems(use, types)
    ]


def _check_network(values: Mapping[str, Any]) -> list[str]:
    if bool(values.get("subnet_ids")) == bool(values.get("security_group_ids")):
        return []
    return ["SUBNET_IDS and SECURITY_GROUP_IDS go together, and one of them is empty"]


def _check_tags(values: Mapping[str, Any]) -> list[str]:
    """Check the cost tags: every resource also has the app's own tags, and SageMaker accepts 50 in all."""
    tags: Mapping[str, str] = values.get("cost_tags", {})
    problems = [] if len(tags) <= MAX_COST_TAGS else [f"COST_TAGS has {len(tags)} tags, and may have {MAX_COST_TAGS}"]
    for key, value in tags.items():
        if key.lower().startswith(("whippet:", "aws:")):
            whose = "the app's" if key.lower().startswith("whippet:") else "AWS's"
            problems.append(f"COST_TAGS has {key!r}, and may have no names which are {whose} own")
        elif not (TAG.fullmatch(key) and TAG.fullmatch(value) and 0 < len(key) <= 128 and len(value) <= 256):
            problems.append(
                f"COST_TAGS has {key!r}: {value!r}, which cannot be a tag: use letters, digits, . : / = + - @ _"
            )
    return problems
