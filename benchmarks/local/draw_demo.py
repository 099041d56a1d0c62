"""Draw `docs/demo.svg`, the README's picture: the terminal at the end of a real `make demo`.

python -m benchmarks.local.draw_demo FOLDER     FOLDER holds the state of a local cloud in which the demo has run
"""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

from botocore.exceptions import ClientError
from rich.console import Console

from localcloud.cli.demo import connect, list_runs, take_snapshot, tell_answers, tell_result
from localcloud.cli.digits import write_digits_zip
from localcloud.cli.questions import choose_pictures
from localcloud.cli.view import render
from tests.support.local_cloud import LocalCloud, run_local_cloud

TARGET = Path(__file__).parents[2] / "docs" / "demo.svg"
WIDTH = 108
FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be fetched from elsewhere


def main(home: Path) -> None:
    with run_local_cloud(home) as cloud:
        user = connect(cloud.variables)
        run = list_runs(user, "digits")[0]
        ended = user.api.get(f"/runs/{run['run_id']}").json()
        snapshot = take_snapshot(user, run["run_id"], ended["seconds"], None)
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        console.print("[bold]$ make demo[/]")
        console.print(render(snapshot))
        tell_result(snapshot.run, console)
        wait_until_it_serves(cloud)
        tell_answers(user, "digits", choose_pictures(write_digits_zip(home / "demo")), console)
        TARGET.write_text(FONT_FACES.sub("", console.export_svg(title="Whippet")))


def wait_until_it_serves(cloud: LocalCloud, seconds: float = 60) -> None:
    """Wait for the model: after a restart an endpoint is in service before its process has loaded it."""
    endpoint = cloud.sagemaker.list_endpoints()["Endpoints"][0]["EndpointName"]
    runtime = cloud.client("sagemaker-runtime")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            runtime.invoke_endpoint(EndpointName=endpoint, Body=b"", ContentType="image/png")
        except runtime.exceptions.ModelError:
            return  # it has looked at the picture, and there is none
        except ClientError:
            time.sleep(0.5)
    raise SystemExit(f"The endpoint {endpoint} does not answer within {seconds:.0f} s of the local cloud's start.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
