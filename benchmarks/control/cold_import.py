"""Measure how long a fresh interpreter needs to import the app, beside boto3 and X-Ray, which load on first use.

The peer is the same interpreter importing boto3's client machinery and the X-Ray SDK: what every Lambda function pays
that imports them at the top.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from benchmarks.results import claim, write_result

ROUNDS = 9
FORBIDDEN = ("torch", "sagemaker", "pandas")
ENVIRONMENT = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "PYTHONDONTWRITEBYTECODE": ""}


def time_interpreter(statement: str) -> float:
    """Return the seconds from the start of a fresh interpreter to its end, running one statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def list_forbidden_modules() -> list[str]:
    """List the heavy packages that `import app` loads."""
    statement = f"import sys, app; print(','.join(m for m in {FORBIDDEN!r} if m in sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", statement], check=True, env=ENVIRONMENT, capture_output=True, text=True
    ).stdout
    return [name for name in output.strip().split(",") if name]


def main() -> None:
    statements = {"nothing": "pass", "app": "import app", "peer": "import boto3, botocore.session, aws_xray_sdk.core"}
    times: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(ROUNDS + 1):
        for name, statement in statements.items():
            times[name].append(time_interpreter(statement))
    median = {name: statistics.median(samples[1:]) for name, samples in times.items()}
    import_app, import_peer = median["app"] - median["nothing"], median["peer"] - median["nothing"]
    forbidden = list_forbidden_modules()
    write_result(
        "cold_import",
        [
            claim("import app in a fresh interpreter", import_app, "s", at_most=0.4, whole_process=median["app"]),
            claim("boto3 and the X-Ray SDK, loaded on first use", import_peer, "s"),
            claim("import app over boto3 and X-Ray", import_app / import_peer, "ratio"),
            claim("heavy packages loaded by import app", len(forbidden), "modules", at_most=0, names=forbidden),
        ],
        packages=["chalice", "aws-lambda-powertools", "boto3"],
    )


if __name__ == "__main__":
    main()
