"""How a command of an operator's ends: exit codes, and what is printed where."""

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
    """On standard error, with the exit code of its kind."""
    assert end(error) == code
    assert capsys.readouterr() == ("", printed)


def test_deploy_and_destroy_name_a_stage_alike() -> None:
    """`dev` of `whippet`, in the profile and region of the environment."""
    told = vars(make_parser("deploy", "").parse_args([]))
    assert told == {"stage": "dev", "app": "whippet", "profile": "", "region": ""}


class Refusing:
    """STS for credentials that are not, or no longer, good."""

    def get_caller_identity(self) -> None:
        raise refuse("The security token included in the request is invalid.", "InvalidClientTokenId")


def test_wrong_credentials_are_told_with_a_way_out() -> None:
    """AWS's words, and how to get others."""
    with pytest.raises(CannotDeploy, match=r"InvalidClientTokenId: The security token .*aws sso login"):
        identify(lambda _service: Refusing(), "us-east-1")


def test_a_profile_that_is_not_there_is_told() -> None:
    """With the command that lists those that are."""
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
    """What was being done, AWS's own words, and what to do where that is known."""
    with pytest.raises(CannotDeploy, match=words), explained("Making it"):
        raise refuse("x", code)
