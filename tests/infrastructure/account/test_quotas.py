"""Test how an order is fitted into an account's limits, and what the operator is told."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.recipes.serving_memory import USUAL_MB as MEMORY_OF_A_RECIPE
from chalicelib.recipes.values import Recipe
from infrastructure.account.quotas import (
    AT_ONCE,
    PARALLEL_TRIALS,
    SERVERLESS,
    SERVERLESS_MEMORY,
    USUAL_MB,
    Choice,
    Limits,
    Quota,
    choose,
    list_wanted,
    read_limits,
)

G4, G5 = "ml.g4dn.xlarge", "ml.g5.xlarge"
SPOT, ON_DEMAND = "for spot training job usage", "for training job usage"


def limit(concurrency: int = 1_000, **values: float) -> Limits:
    """Return an account's limits: four machines of each type and AWS's defaults, except for the given values."""
    names = list_wanted([G4, G5], ["ml.m5.large"])
    told = dict.fromkeys(names, 4.0) | {PARALLEL_TRIALS: 10.0, SERVERLESS_MEMORY: 3072.0} | values
    return Limits(
        {name: Quota(name, value, f"L-{at}") for at, (name, value) in enumerate(told.items())}, concurrency, concurrency
    )


def decide(limits: Limits, **told: Any) -> Choice:
    wanted: dict[str, Any] = {
        "trial_types": [G4, G5],
        "training_types": [G5],
        "endpoint_types": ["ml.m5.large"],
        "use_spot": True,
        "reserved": 0,
        "functions": 5,
    }
    return choose(limits, **(wanted | told))


def test_enough_of_everything_changes_and_says_nothing() -> None:
    """The choice is the order, together with the limits that runs are checked against."""
    assert decide(limit()) == Choice((G4, G5), (G5,), True, 0, 0, 10, 4, 3072)


def test_what_is_not_known_is_not_zero() -> None:
    """If nothing can be read, nothing is taken away, and the operator is told."""
    choice = decide(Limits({}, unreadable=("nothing could be read",)), reserved=3)
    assert choice == Choice((G4, G5), (G5,), True, 3, told=("nothing could be read",))
    assert decide(Limits({}), api=7).api_concurrency == 7


def test_no_spot_at_all_means_on_demand() -> None:
    """The message has a command for each quota."""
    choice = decide(limit(**{f"{each} {SPOT}": 0 for each in (G4, G5)}))
    assert not choice.use_spot
    assert choice.trial_types == (G4, G5)
    assert choice.told[0].count("aws service-quotas request-service-quota-increase") == 2
    assert choice.told[0].count("--desired-value 2 ") == 2


def test_spot_for_one_type_leaves_the_other_out() -> None:
    """Nothing falls back to on demand as long as each use has a type left."""
    choice = decide(limit(**{f"{G4} {SPOT}": 0}))
    assert (choice.use_spot, choice.trial_types, choice.training_types) == (True, (G5,), (G5,))
    assert choice.told == (f"{G4} may not be used here, and is left out of what trials run on.",)


def test_spot_for_the_trials_alone_is_hopeless_for_the_last_training() -> None:
    """One setting makes all jobs use spot, so the final training has no type left and is named."""
    choice = decide(limit(**{f"{G5} {SPOT}": 0}))
    assert len(choice.hopeless) == 1
    assert "the final training" in choice.hopeless[0]


def test_without_any_machine_it_is_hopeless() -> None:
    """Each use is named, with the quotas that are missing."""
    choice = decide(limit(**{f"{each} {kind}": 0 for each in (G4, G5) for kind in (SPOT, ON_DEMAND)}))
    assert len(choice.hopeless) == 2
    assert all(f"{G5} {ON_DEMAND}: 0" in each for each in choice.hopeless)


@pytest.mark.parametrize(("kind", "switch"), [(SPOT, "UseSpot=false"), (ON_DEMAND, "UseSpot=true")])
def test_a_refusal_names_what_a_run_takes_and_what_to_ask_for(kind: str, switch: str) -> None:
    """It asks for enough for a default recipe, and names the other kind of machine if the account has it."""
    choice = decide(
        limit(**{f"{G5} {kind}": 0}), use_spot=kind == SPOT, trial_types=[G5], training_types=[G4], endpoint_types=[]
    )
    [hopeless] = choice.hopeless
    assert "No instance may run trials" in hopeless
    assert "A run takes 2 machines at a time (parallel_trials in the recipe)" in hopeless
    assert f"deploy with {switch}" in hopeless
    assert hopeless.endswith(f"--desired-value 2   # {G5} {kind}: 0")


@pytest.mark.parametrize("kind", [SPOT, ON_DEMAND])
def test_a_quota_of_one_is_told_with_what_to_ask_for(kind: str) -> None:
    """The stage is deployed, runs one trial at a time, and the message asks for enough."""
    choice = decide(limit(**{f"{each} {kind}": 1 for each in (G4, G5)}), use_spot=kind == SPOT)
    assert choice.trial_types == (G4, G5)
    assert choice.hopeless == ()
    [told] = choice.told
    assert "takes one trial at a time" in told
    assert "parallel_trials" in told
    assert told.count("--desired-value 2 ") == 2


def test_a_quota_of_one_beside_a_larger_one_passes_its_type_over() -> None:
    """Trials run on the type with enough machines."""
    [told] = decide(limit(**{f"{G4} {SPOT}": 1})).told
    assert told.startswith(f"{G4} may be used by one job at a time here: trials, 2 at a time, run on the others.")


def test_the_last_training_is_content_with_one_machine() -> None:
    """It is one job, so nothing more is requested."""
    assert decide(limit(**{f"{G5} {SPOT}": 1}), trial_types=[G4]).told == ()


def test_the_most_machines_of_one_type_limit_the_last_training() -> None:
    """Of the kind that the stage uses; a type whose quota nobody knows may have more."""
    several = limit(**{f"{G4} {SPOT}": 2, f"{G5} {SPOT}": 6})
    assert decide(several, training_types=[G4, G5]).max_training_instances == 6
    unknown = Limits({name: quota for name, quota in several.quotas.items() if name != f"{G4} {SPOT}"})
    assert decide(unknown, training_types=[G4, G5]).max_training_instances == 0


def test_limits_of_trials_and_memory_below_a_default_recipe_are_told() -> None:
    """Both are reported with their commands before anything is created, and passed to the app."""
    choice = decide(limit(**{PARALLEL_TRIALS: 1, SERVERLESS_MEMORY: 2048}))
    assert (choice.max_parallel_trials, choice.max_serverless_memory_mb) == (1, 2048)
    trials, memory = choice.told
    assert "--desired-value 2 " in trials
    assert "may have 2048 MB here, and recipes ask for 3072" in memory


def test_a_default_recipe_is_what_the_quotas_are_held_against() -> None:
    """The two units share no code, so this test compares their numbers."""
    assert (Recipe().parallel_trials, MEMORY_OF_A_RECIPE) == (AT_ONCE, USUAL_MB)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Maximum number of parallel training jobs per hyperparameter tuning job", PARALLEL_TRIALS),
        ("Number of parallel training jobs per hyperparameter tuning job", PARALLEL_TRIALS),
        ("Memory size in MB per serverless endpoint", SERVERLESS_MEMORY),
        ("Maximum memory size for a serverless endpoint in MB", SERVERLESS_MEMORY),
    ],
)
def test_quotas_whose_names_aws_writes_in_several_forms_are_found(name: str, known: str) -> None:
    """They keep the name and the code that AWS returned."""

    class Named(Quotas):
        def list_service_quotas(self, **_told: Any) -> dict[str, Any]:
            return {"Quotas": [{"QuotaName": name, "Value": 7.0, "QuotaCode": "L-7"}]}

    assert read_limits(Named(), NoFunctions(), [known]).quotas == {known: Quota(name, 7.0, "L-7")}


@pytest.mark.parametrize(("concurrency", "reserved"), [(10, 0), (109, 0), (110, 2), (1_000, 2)])
def test_concurrency_is_reserved_where_a_hundred_calls_stay_free(concurrency: int, reserved: int) -> None:
    """Lambda refuses a larger reservation, which would fail the stack."""
    choice = decide(limit(concurrency), reserved=2)
    assert choice.reserved_concurrency == reserved
    assert ("ReservedConcurrency=0" in " ".join(choice.told)) == (not reserved)


def test_what_the_stage_reserves_already_is_its_own() -> None:
    """Repeating an order succeeds: Lambda's free calls do not include what the stage already holds."""
    assert decide(limit(100), reserved=2, reserved_before=10).reserved_concurrency == 2
    assert decide(limit(100), reserved=2, reserved_before=5).reserved_concurrency == 0


@pytest.mark.parametrize(("concurrency", "kept"), [(129, (0, 0)), (130, (2, 20))])
def test_the_routes_function_and_those_of_events_are_counted_together(concurrency: int, kept: tuple[int, int]) -> None:
    """Lambda refuses their sum, so both are reserved or neither is."""
    choice = decide(limit(concurrency), reserved=2, api=20)
    assert (choice.reserved_concurrency, choice.api_concurrency) == kept
    assert ("ApiConcurrency=0" in " ".join(choice.told)) == (kept == (0, 0))


def test_no_serverless_endpoint_is_told() -> None:
    """The message names the way out for recipes."""
    assert "endpoint.kind instance" in decide(limit(**{SERVERLESS: 0})).told[0]


class Quotas:
    """A fake Service Quotas that lists a quota that was never changed only among AWS's defaults."""

    def list_service_quotas(self, **told: Any) -> dict[str, Any]:
        first = "NextToken" not in told
        name = f"{G4} {SPOT}" if first else f"{G5} {SPOT}"
        return {
            "Quotas": [{"QuotaName": name, "Value": 1.0, "QuotaCode": "L-1"}],
            **({"NextToken": "2"} if first else {}),
        }

    def list_aws_default_service_quotas(self, **_told: Any) -> dict[str, Any]:
        names = (f"{G4} {SPOT}", f"{G4} {ON_DEMAND}")
        return {"Quotas": [{"QuotaName": name, "Value": 0.0, "QuotaCode": "L-2"} for name in names]}


class NoFunctions:
    def get_account_settings(self) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetAccountSettings")


def test_defaults_stand_in_for_what_was_never_changed() -> None:
    """An applied quota wins over AWS's default; an unreadable one is reported and blocks nothing."""
    limits = read_limits(
        Quotas(), NoFunctions(), [f"{G4} {SPOT}", f"{G5} {SPOT}", f"{G4} {ON_DEMAND}", f"{G5} {ON_DEMAND}"]
    )
    values = {name: quota.value for name, quota in limits.quotas.items()}
    assert values == {f"{G4} {SPOT}": 1, f"{G5} {SPOT}": 1, f"{G4} {ON_DEMAND}": 0}
    assert limits.unreadable == ("Lambda's limit of concurrent calls could not be read (AccessDenied: no)",)
