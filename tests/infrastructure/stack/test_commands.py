"""Test how an operator's command ends: its exit codes, and what it prints where."""

from __future__ import annotations

import pytest

from infrastructure.account.context import connect, explained, identify
from infrastructure.errors import CannotDeploy, Unusable
from infrastructure.stack.commands import make_parser, run_command
from tests.support.refusals import refuse


def end(error: BaseException | None) -> int:
    def act() -> None:
        if error is not None:
            raise error

    return run_command("deploy", act, interrupted="left alone.")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (None, 0, ""),
        (CannotDeploy("no"), 1, "deploy: no\n"),
        (Unusable("what?"), 2, "deploy: what?\n"),
        (KeyboardInterrupt(), 1, "deploy: left alone.\n"),
    ],
    ids=["well", "refused", "unusable", "interrupted"],
)
def test_an_error_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], error: BaseException | None, code: int, printed: str
) -> None:
    """It is printed to standard error, with the exit code of its kind."""
    assert end(error) == code
    assert capsys.readouterr() == ("", printed)


def test_deploy_and_destroy_name_a_stage_alike() -> None:
    """The default is `dev` of `whippet`, in the environment's profile and region."""
    told = vars(make_parser("deploy", "").parse_args([]))
    assert told == {"stage": "dev", "app": "whippet", "profile": "", "region": ""}


class Refusing:
    """A fake STS that refuses invalid credentials."""

    def get_caller_identity(self) -> None:
        raise refuse("The security token included in the request is invalid.", "InvalidClientTokenId")


def test_wrong_credentials_are_told_with_a_way_out() -> None:
    """The message quotes AWS and says how to get credentials."""
    with pytest.raises(CannotDeploy, match=r"InvalidClientTokenId: The security token .*aws sso login"):
        identify(lambda _service: Refusing(), "us-east-1")


def test_a_profile_that_is_not_there_is_told() -> None:
    """The message has the command that lists the existing profiles."""
    with pytest.raises(Unusable, match="list-profiles"):
        connect("nobodys-profile", "us-east-1")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", "docs/aws.md"),
        ("ExpiredToken", "aws sso login"),
        ("Throttling", "Making it failed. Throttling: x$"),
    ],
)
def test_awss_refusals_are_explained(code: str, words: str) -> None:
    """The message says what was being done, quotes AWS, and says what to do if that is known."""
    with pytest.raises(CannotDeploy, match=words), explained("Making it"):
        raise refuse("x", code)
