"""Check that the functions' environment fits into Lambda's 4 KB, before a stack would fail of it. Pure.

Lambda measures the variables as one JSON text, and CloudFormation says so only after minutes, when it rolls back. What
a resource is called is not known before it is made; an ARN of ours has some hundred characters at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from infrastructure.errors import CannotDeploy
from infrastructure.packaging.build import FUNCTION

MOST_BYTES = 4_096
UNKNOWN = "x" * 110  # stands in for the name or ARN of a resource
SHOWN = 3


def check_environment(template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    """Raise CannotDeploy if the variables of a function are more than Lambda takes."""
    common = template.get("Globals", {}).get("Function", {})
    functions = [each["Properties"] for each in template["Resources"].values() if each["Type"] == FUNCTION]
    for variables in (read_variables(common) | read_variables(function) for function in functions):
        resolved = {name: resolve(value, parameters) for name, value in variables.items()}
        if (size := measure(resolved)) > MOST_BYTES:
            raise CannotDeploy(explain_size(resolved, size))


def read_variables(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a function's environment, as its template has them."""
    return dict(function.get("Environment", {}).get("Variables", {}))


def resolve(value: Any, parameters: Mapping[str, str]) -> str:
    """Return a variable's text: parameters as they are, everything else as long as it may become."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return parameters.get(value["Ref"], UNKNOWN)
    if isinstance(value.get("Fn::Sub"), str):
        return re.sub(r"\$\{([^}]+)\}", lambda found: parameters.get(found[1], UNKNOWN), value["Fn::Sub"])
    return UNKNOWN


def measure(variables: Mapping[str, str]) -> int:
    """Return the bytes that Lambda counts."""
    return len(json.dumps(dict(variables), separators=(",", ":"), ensure_ascii=False).encode())


def explain_size(variables: Mapping[str, str], size: int) -> str:
    """Explain that the environment is too large, and which variables make it so."""
    largest = sorted(variables, key=lambda name: -measure({name: variables[name]}))[:SHOWN]
    told = ", ".join(f"{name} ({measure({name: variables[name]}):,})" for name in largest)
    return (
        f"The functions' environment has {size:,} bytes, and Lambda takes {MOST_BYTES:,}. The largest of it: {told}. "
        "COST_TAGS are TAGS: give fewer or shorter ones, or shorten what PARAMETERS names. Nothing was made."
    )
