"""`make destroy`: remove a stage, then look for what is left of it. It can safely be repeated.

    python -m infrastructure.removing.destroy [--stage STAGE] [--app APP] [--profile NAME] [--region NAME]
                                              [--data keep|delete]

The bucket with datasets, runs and models is kept unless `--data delete` is given; a later deployment adopts it. Exit
code 0: nothing is left but what is kept on purpose; 1: something is left, and is listed; 2: the command line is wrong.
"""

from __future__ import annotations

import sys

from infrastructure.account.context import Stage, connect, identify
from infrastructure.errors import CannotDeploy
from infrastructure.removing.leftovers import find_leftovers
from infrastructure.removing.steps import (
    Removal,
    delete_bucket,
    delete_logs,
    delete_serving,
    delete_unused_roles,
    stop_jobs,
)
from infrastructure.stack.cloudformation import Stacks
from infrastructure.stack.commands import make_parser, run_command, tell
from infrastructure.stack.orders import check_names


def destroy(work: Removal, stacks: Stacks, *, keeps_data: bool) -> None:
    """Remove the stage. Raises CannotDeploy if something cannot be removed or is left at the end."""
    stop_jobs(work)
    delete_serving(work)
    if stacks.remove(work.stage.stack):
        work.tell(f"The stack {work.stage.stack} is gone.")
    stop_jobs(work)  # a function may have started something while the stack was being deleted
    delete_serving(work)
    delete_logs(work)
    delete_unused_roles(work)
    delete_bucket(work, work.stage.artifacts)
    if not keeps_data:
        delete_bucket(work, work.stage.bucket)
    report(work, keeps_data=keeps_data)


def report(work: Removal, *, keeps_data: bool) -> None:
    """Report what is kept on purpose. Raises CannotDeploy naming what is left."""
    found = find_leftovers(work, keeps_data=keeps_data)
    for each in found.kept:
        work.tell(f"Kept: {each}")
    if found.left:
        lines = "\n".join(f"  {each}" for each in found.left)
        raise CannotDeploy(f"This is left:\n{lines}\nRun the same command again; what stays then, delete by hand.")
    work.tell(f"Nothing else of {work.stage.stack} is left.")


def run(arguments: list[str] | None) -> None:
    """Remove the stage that a command line names. Raises OperatorError."""
    parser = make_parser("destroy", "Take a stage of the app away from AWS.")
    parser.add_argument("--data", choices=("keep", "delete"), default="keep", help="what becomes of the stage's bucket")
    told = parser.parse_args(arguments)
    check_names(told.app, told.stage)
    clients, region = connect(told.profile, told.region)
    stage = Stage(told.app, told.stage, identify(clients, region))
    tell(f"Removing {stage.stack} from account {stage.account.number}, {region}.")
    destroy(Removal(stage, tell), Stacks(clients("cloudformation"), tell), keeps_data=told.data == "keep")


def main(arguments: list[str] | None = None) -> int:
    return run_command(
        "destroy", lambda: run(arguments), interrupted="left half-way. The same command goes on from there."
    )


if __name__ == "__main__":
    sys.exit(main())
