"""Bearer tokens: several, each by its name, each to be withdrawn."""

from __future__ import annotations

import json

import pytest

from chalicelib.errors import InvalidSettings, ServiceError, Unauthorized
from tests.fakes.world import World


@pytest.mark.parametrize("header", ["Bearer ann-token", "bearer ann-token", "BEARER  ann-token "])
def test_a_token_tells_who_it_is_of(world: World, header: str) -> None:
    """The scheme's name is not case sensitive."""
    assert world.services().tokens.check(header) == "ann"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "ann-token",
        "Basic ann-token",
        "Bearer ann-token x",
        "Bearer ann-toke",
        "Bearer é",
    ],
)
def test_anything_else_is_refused(world: World, header: str | None) -> None:
    """A missing, cut, unknown or misspelt token."""
    with pytest.raises(Unauthorized):
        world.services().tokens.check(header)


def test_the_secret_is_read_once_a_minute(world: World) -> None:
    """Not at import, not at each request; and a withdrawn token opens the door for a minute at most."""
    tokens = world.services().tokens
    assert world.secrets.reads == 0
    for _ in range(5):
        tokens.check("Bearer bob-token")
    assert world.secrets.reads == 1
    world.secrets.text = json.dumps({"tokens": {"ann": "ann-token"}})
    world.clock.sleep(60)
    with pytest.raises(Unauthorized):
        tokens.check("Bearer bob-token")
    assert tokens.check("Bearer ann-token") == "ann"


@pytest.mark.parametrize("others", [{}, {"tokens": {}}, {"tokens": {"ann": "ann-token"}}])
def test_the_generated_token_is_the_one_named_default(world: World, others: dict[str, object]) -> None:
    """Secrets Manager puts what it generates at the top of the secret; it opens the door beside the named ones."""
    world.secrets.text = json.dumps({**others, "default_token": "generated"})
    tokens = world.services().tokens
    assert tokens.check("Bearer generated") == "default"
    if others.get("tokens"):
        assert tokens.check("Bearer ann-token") == "ann"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"tokens": []}',
        '{"tokens": {"ann": ""}}',
        '{"tokens": {"ann": 1}}',
        '{"tokens": {}, "default_token": ""}',
        '{"tokens": [], "default_token": "generated"}',
    ],
)
def test_a_secret_that_cannot_be_used_opens_nothing(world: World, text: str) -> None:
    """The error names the secret, and shows nothing of it."""
    world.secrets.text = text
    with pytest.raises(InvalidSettings, match="whippet/tokens"):
        world.services().tokens.check("Bearer ann-token")


def test_a_secret_that_cannot_be_read_opens_nothing(world: World) -> None:
    """Not even for a token that was good a minute ago."""
    tokens = world.services().tokens
    tokens.check("Bearer ann-token")
    world.clock.sleep(61)
    world.trouble.plan = {len(world.trouble.calls): "throttle"}
    with pytest.raises(ServiceError):
        tokens.check("Bearer ann-token")
