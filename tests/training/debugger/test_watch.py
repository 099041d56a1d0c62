"""The debugger: each rule triggers in a faulty real training and not in a healthy one; its failures harm nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from debugger.sums import find_variance
from debugger.verdicts import ADVICE
from debugger.watch import putting_off
from job.settings import RULES as NAMES
from job.settings import TrainingError, read_hyperparameters
from learning.engine import Hook, Learner
from learning.steps.replay import without_hooks
from smdebug_rulesconfig.debugger_rules import builtin_rules

from chalicelib.requests.debugger import build_debugger_blocks
from tests.chalicelib.requests.test_jobs import make_run
from tests.fakes.world import SETTINGS
from tests.training.debugger.watched import (
    EPOCHS,
    STEPS,
    Blank,
    Case,
    Few,
    Learnt,
    Memorised,
    Points,
    build_deep,
    run_case,
)
from tests.training.profiled import Tape
from tests.training.tiny import ROOT, Runner


def never_learn(network: torch.nn.Module) -> None:
    """Two layers of zeros in a row get no gradient, and stay zero."""
    for layer in (network[3], network[6]):
        layer.weight.zero_()
        layer.bias.zero_()


ILL = {
    "VanishingGradient": Case(build=build_deep),
    "ExplodingTensor": Case(rate=1e25),
    "LossNotDecreasing": Case(points=Blank()),
    "Overfit": Case(points=Few(20), epochs=12),
    "Overtraining": Case(points=Learnt(10), epochs=30, harm=lambda network: network[5].__setattr__("p", 0.0)),
    "PoorWeightInitialization": Case(harm=lambda network: network[3].weight.mul_(300), rate=10.0),
    "DeadRelu": Case(harm=lambda network: network[6].bias.fill_(-100)),
    "SaturatedActivation": Case(harm=lambda network: network[3].weight.mul_(1e4)),
    "WeightUpdateRatio": Case(rate=10.0),
    "UnchangedTensor": Case(rate=1e-12),
    "AllZero": Case(harm=never_learn),
    "ClassImbalance": Case(points=Points(shares=(95, 95, 5)), counts=(95, 95, 5)),
    "Confusion": Case(points=Points(alike=True)),
    "LearningRateTooHigh": Case(rate=3.0),
    "TinyBatch": Case(batch=2),
    "NearChance": Case(points=Memorised(20), epochs=6),
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Return what the rules say about a training that goes well, and its folder."""
    folder = tmp_path_factory.mktemp("healthy")
    return run_case(Case(), folder), folder


@pytest.mark.parametrize("name", NAMES)
def test_rule_finds_the_illness_that_it_is_for(name: str, tmp_path: Path) -> None:
    """The rule finds the fault, and reports a sentence and the steps at which it showed."""
    rule = run_case(ILL[name], tmp_path)["rules"][name]
    assert rule["status"] == "IssuesFound", rule
    assert rule["advice"] == ADVICE[name]
    assert rule["details"].startswith(f"step {rule['steps'][0]}: ")
    assert rule["steps"][0] >= 0


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("ExplodingTensor", Case(rate=1e25, points=Points(5))),
        ("LossNotDecreasing", Case(points=Blank())),
        ("LearningRateTooHigh", Case(rate=3.0)),
        ("WeightUpdateRatio", Case(harm=lambda network: network[0].weight.mul_(1e-6), epochs=1)),
    ],
)
def test_a_cause_comes_before_what_it_causes(name: str, case: Case, tmp_path: Path) -> None:
    """Divergence between two saves, blank images and too large steps also kill units and let gradients vanish.

    So do weights that are far too small, at the first step.
    """
    rules = run_case(case, tmp_path)["rules"].items()
    assert next(found for found, rule in rules if rule["status"] == "IssuesFound") == name


@pytest.mark.parametrize("name", NAMES)
def test_rule_is_silent_about_a_healthy_training(name: str, healthy: tuple[dict[str, Any], Path]) -> None:
    """A network that learns well, with ReLU, tanh and normalisation, triggers no rule."""
    rule = healthy[0]["rules"][name]
    assert rule["status"] == ("NotJudged" if name in ("Overfit", "Overtraining") else "NoIssuesFound"), rule
    assert (rule["steps"], rule["advice"]) == ([], None)


def test_rules_have_the_names_and_parameters_of_aws() -> None:
    """What is AWS's has its names, and rules on tensors have the defaults of its documentation; others are ours."""
    from debugger.course_rules import COURSE_RULES
    from debugger.tensor_rules import TENSOR_RULES

    known = [make() for name, make in vars(builtin_rules).items() if not name.startswith("_")]
    names = {each["DebugRuleConfiguration"]["RuleParameters"]["rule_to_invoke"] for each in known}
    ours = {"NearChance", "WorseThanBaseline", "LearningRateTooHigh", "TinyBatch"}
    assert set(TENSOR_RULES) | set(COURSE_RULES) == set(NAMES) | ours == set(ADVICE)
    assert (set(TENSOR_RULES) | set(COURSE_RULES)) - names == ours
    defaults = {name: rule.DEFAULTS for name, rule in TENSOR_RULES.items()}
    assert defaults["VanishingGradient"] == {"threshold": 1e-7}
    assert (defaults["DeadRelu"]["threshold_inactivity"], defaults["DeadRelu"]["threshold_layer"]) == (1.0, 50.0)
    assert defaults["WeightUpdateRatio"]["large_threshold"] == 10.0


def test_losses_and_reductions_are_saved_and_nothing_large(healthy: tuple[dict[str, Any], Path]) -> None:
    """smdebug itself reads them back: by mode, in the collections that SageMaker names."""
    from smdebug import modes
    from smdebug.trials import create_trial

    trial = create_trial(str(healthy[1] / "debug"))
    assert trial.steps(mode=modes.TRAIN) == list(range(0, EPOCHS * STEPS, 10))
    weight = trial.tensor("Sequential_0.weight")
    assert weight.reduction_value(0, "mean", abs=True) > 0
    assert not weight._mode_steps[modes.TRAIN].step(0)["worker_0"].location
    for collection in ("losses", "weights", "biases", "gradients", "activations", "health"):
        assert trial.tensor_names(collection=collection), collection
    losses = trial.tensor("CrossEntropyLoss_output_0")
    assert len(losses.steps(mode=modes.EVAL)) == EPOCHS
    assert np.isfinite(losses.value(losses.steps(mode=modes.EVAL)[0], mode=modes.EVAL))
    assert sum(path.stat().st_size for path in healthy[1].rglob("*") if path.is_file()) < 2e6


def test_only_steps_that_are_saved_are_looked_into(tmp_path: Path) -> None:
    """In all others no module and no gradient calls a hook: they would take the debugger's time for nothing."""
    hooked = []

    class Look(Hook):
        def on_start(self, learner: Learner) -> None:
            self.network = learner.network

        def on_step(self, _epoch: int, _step: int) -> None:
            inner = [module for module in self.network.modules() if module is not self.network]
            weights = list(self.network.parameters())
            hooked.append(
                {
                    any(module._forward_hooks or module._forward_pre_hooks for module in inner),
                    any(weight._backward_hooks for weight in weights),
                }
            )

    run_case(Case(), tmp_path, hooks=[Look()])
    assert hooked == [{number % 10 == 0} for number in range(EPOCHS * STEPS)]


@pytest.mark.parametrize("mean", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (8, 64, 12, 20), (9, 1000)])
def test_a_variance_is_that_of_torch_to_five_digits(mean: float, shape: tuple[int, ...]) -> None:
    """Whatever the values' mean and their order in memory; infinity and NaN stay what they are."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + mean
    for own in (values, values.transpose(0, -1), values[..., :-1]):
        expected = own.double().var().item() if own.numel() > 1 else 0.0
        assert find_variance(own).item() == pytest.approx(expected, rel=1e-5)
        assert own.numel() < 2 or find_variance(torch.full_like(own, mean)).item() == 0
    for ill in (math.nan, math.inf):
        assert math.isnan(find_variance(torch.tensor([0.5, ill] * 5000)).item())


@pytest.mark.parametrize("value", [3.5, [[1, 2], [-3, 4]], [True, False], [[0.0] * 200]])
def test_a_tensor_is_written_with_the_bytes_that_smdebug_writes(value: Any, tmp_path: Path) -> None:
    """The files and their index are those of smdebug's own writer, which takes longer: any reader of them can go on."""
    from debugger.saving import StepWriter
    from smdebug import modes
    from smdebug.core.writer import FileWriter

    def write(kind: type[FileWriter], own: Path) -> list[bytes]:
        writer = kind(trial_dir=str(own), worker="worker_0", step=300)
        for mode, step in ((modes.TRAIN, 0), (modes.EVAL, 2**40)):
            tensor = np.array(value).view(Older)
            writer.write_tensor(tensor, f"weight/größe.{mode.name}", mode=mode, mode_step=step, timestamp=1.7e9)
        writer.flush()
        writer.close()
        return [path.read_bytes() for path in sorted(own.rglob("*")) if path.is_file()]

    ours, theirs = write(StepWriter, tmp_path / "ours"), write(FileWriter, tmp_path / "theirs")
    assert len(ours) == 2
    assert ours == theirs


@pytest.mark.parametrize("value", [3.5, [[1, 2], [-3, 4]], [True, False], [[0.0] * 200], np.float16([[1.5]])])
def test_a_tensor_is_read_as_smdebug_reads_it(value: Any, tmp_path: Path) -> None:
    """The same values, shape and type, whatever else the file holds; a file that is missing is left to smdebug."""
    from debugger.saving import StepWriter, ValueReader
    from smdebug.core.index_reader import LocalIndexReader
    from smdebug.core.locations import TensorLocation

    theirs, arrays = LocalIndexReader(str(tmp_path)), [np.zeros(300), np.array(value), np.array(7)]
    writer = StepWriter(trial_dir=str(tmp_path), worker="worker_0", step=300)
    for number, array in enumerate(arrays):
        writer.write_tensor(array, f"größe.{number}", timestamp=1.7e9)
    places = [(each["start_idx"], each["length"]) for each in writer.index_writer.index_payload]
    writer.flush()
    writer.close()
    read = ValueReader(lambda location: location.event_file_name)
    for place, array in zip(places, arrays, strict=True):
        location = TensorLocation("größe", None, 300, writer.event_file_path, *place, "worker_0")
        found, expected = read(location), theirs.fetch_tensor_value(location)
        assert (found.dtype, found.shape, found.tolist()) == (expected.dtype, array.shape, array.tolist())
    location.event_file_name = "gone"
    assert read(location) == "gone"


class Older(np.ndarray[Any, Any]):
    """An array with a method that smdebug's own writer calls and numpy 2.3 no longer has."""

    def tostring(self) -> bytes:
        return self.tobytes()


class WaitForRules(Hook):
    """Waits in the middle of a training until the rules on tensors have reported once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, False

    def on_step(self, epoch: int, step: int) -> None:
        limit = time.monotonic() + 20
        while epoch == 2 and step == 5 and not self.found and time.monotonic() < limit:
            rules = json.loads(self.path.read_text())["rules"] if self.path.exists() else []
            self.found = any(rule["name"] == "DeadRelu" and rule["status"] != "NotJudged" for rule in rules)
            time.sleep(0.02)


def test_rules_run_while_the_job_trains(tmp_path: Path) -> None:
    """rules.json exists before the training ends."""
    waiting = WaitForRules(tmp_path / "rules.json")
    run_case(Case(), tmp_path, hooks=[waiting])
    assert waiting.found


def test_a_rule_ends_the_training_where_it_is_told_to(tmp_path: Path) -> None:
    """It ends after the first epoch at the earliest; rule-stop.json says which rule, when and why."""
    waiting = WaitForRules(tmp_path / "rules.json")
    found = run_case(ILL["DeadRelu"], tmp_path, hooks=[waiting], stop_on_rules=["DeadRelu"])
    reason = json.loads((tmp_path / "rule-stop.json").read_text())
    assert (reason["rule"], reason["step"]) == ("DeadRelu", 10)  # the second save: found twice in a row
    assert 1 <= found["epochs"] < EPOCHS
    assert reason["reason"] in found["stopped"]


def test_other_rules_do_not_end_the_training(tmp_path: Path) -> None:
    """A rule that was not named only reports what it finds."""
    found = run_case(ILL["DeadRelu"], tmp_path, stop_on_rules=["ExplodingTensor"])
    assert (found["stopped"], found["epochs"]) == ("", EPOCHS)
    assert not (tmp_path / "rule-stop.json").exists()


def test_the_hook_is_configured_by_sagemakers_file(tmp_path: Path) -> None:
    """debughookconfig.json decides what is saved and where; a rule that lacks its tensors says so."""
    target = tmp_path / "tensors"
    collections = [{"CollectionName": "losses", "CollectionParameters": {"train.save_interval": "7"}}]
    config = tmp_path / "input/config/debughookconfig.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"LocalPath": str(target), "CollectionConfigurations": collections}))
    rules = run_case(Case(), tmp_path)["rules"]
    assert "saved steps" in rules["ExplodingTensor"]["details"]
    assert rules["DeadRelu"]["status"] == "NotJudged"
    assert rules["DeadRelu"]["details"].startswith("nothing to judge")
    assert any(target.iterdir())
    assert not (tmp_path / "debug").exists()


def test_our_rules_judge_by_the_hook_that_we_ask_aws_for(tmp_path: Path) -> None:
    """With AWS's Debugger in full, SageMaker's file holds our request's hook: every rule finds its tensors."""
    asked = dataclasses.replace(SETTINGS, debugger_mode="full")
    hook = build_debugger_blocks(make_run(), asked)["DebugHookConfig"] | {"LocalPath": str(tmp_path / "tensors")}
    hook["HookParameters"] |= {"train.save_interval": "10"}  # the training has 200 steps
    config = tmp_path / "input/config/debughookconfig.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(hook))
    rules = run_case(Case(), tmp_path)["rules"]
    assert set(rules) == set(ADVICE)
    unjudged = {"WorseThanBaseline", "Overfit", "Overtraining"}  # no baseline, and too few epochs
    assert {name for name, rule in rules.items() if rule["status"] == "NotJudged"} == unjudged
    again = run_case(ILL["DeadRelu"], tmp_path)["rules"]  # a second life of the job, in the same container
    assert again["DeadRelu"]["status"] == "IssuesFound"


class Breaker(Hook):
    """Replaces the tensor folder by a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step(self, epoch: int, step: int) -> None:
        if (epoch, step) == (2, 5):
            shutil.rmtree(self.folder)
            self.folder.write_text("in the way")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # smdebug's own writer, half initialised
def test_a_failing_hook_does_not_fail_the_training(tmp_path: Path) -> None:
    """The training finishes, with a warning in the log and the reason in rules.json."""
    said: list[str] = []
    found = run_case(Case(), tmp_path, hooks=[Breaker(tmp_path / "debug")], say=said.append)
    assert found["epochs"] == EPOCHS
    assert found["hook"]["available"] is False
    assert "smdebug failed" in found["hook"]["reason"]
    assert said[0].startswith("WARNING: smdebug failed")


def test_the_debugger_changes_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    """The weights after a watched training equal those of an unwatched one."""
    weights = []
    for watched in (True, False):
        kept: list[torch.nn.Module] = []
        run_case(Case(harm=kept.append, epochs=1), tmp_path, watched=watched)
        weights.append(torch.cat([value.flatten().float() for value in kept[0].state_dict().values()]))
    assert torch.equal(*weights)


def test_job_goes_on_without_smdebug(runner: Runner, tmp_path: Path) -> None:
    """Without smdebug the profiled job warns and ships its model; rules.json says why, and the course is judged."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "training", code)
    shutil.copytree(ROOT / "inference", code / "inference")
    (code / "smdebug").mkdir()
    (code / "smdebug/__init__.py").write_text("raise ImportError('not in this container')\n")
    status, log = runner.run({"profile": "true", "epochs": "1"}, code=code, WHIPPET_INSTALL="0")
    assert status == 0, log
    assert "WARNING: smdebug cannot be imported" in log
    told = json.loads((runner.folder / "rules.json").read_text())
    rules = {rule["name"]: rule for rule in told["rules"]}
    assert rules["DeadRelu"]["status"] == "NotJudged"
    assert "not in this container" in rules["DeadRelu"]["details"]
    assert rules["TinyBatch"]["status"] == rules["WorseThanBaseline"]["status"] == "NoIssuesFound"
    assert not told["hook"]["available"]
    assert "not in this container" in told["hook"]["reason"]
    assert (runner.model / "model.pth").exists()


def test_job_that_a_rule_ended_is_complete(runner: Runner) -> None:
    """With a learning rate that changes no weight and a rule set to stop it: best epoch shipped, exit code 0.

    A rate that wrecks the weights ends the job as diverged at its first epoch, which may come before the rule is read.
    """
    given = {"profile": "true", "epochs": "30", "batch_size": "4", "learning_rate": "1e-12", "patience": "0"}
    status, log = runner.run({**given, "stop_on_rules": '["WeightUpdateRatio"]'})
    assert status == 0, log
    reason = json.loads((runner.folder / "rule-stop.json").read_text())
    assert reason["rule"] == "WeightUpdateRatio"
    assert len(runner.metrics()) < 30 + 2
    assert any(reason["reason"] in warning for warning in runner.evaluation()["warnings"])
    assert not (runner.folder / "checkpoint.pt").exists()
    assert (runner.model / "model.pth").exists()


def test_trials_are_not_watched(trained: Runner) -> None:
    """A job without `profile` saves no tensors and writes no rules."""
    assert not {"debug", "rules.json"} & {path.name for path in trained.folder.iterdir()}


def test_rules_to_stop_on_are_read_as_a_list_or_as_text() -> None:
    """SageMaker passes text: JSON, or comma-separated names; an unknown rule is refused with the list of known ones."""
    for given in ('["DeadRelu", "Overfit"]', "DeadRelu, Overfit"):
        assert read_hyperparameters({"stop_on_rules": given}, print).stop_on_rules == ("DeadRelu", "Overfit")
    assert read_hyperparameters({"stop_on_rules": "[]"}, print).stop_on_rules == ()
    schema = json.loads((ROOT / "chalicelib/recipes/schema.json").read_text())
    assert tuple(schema["properties"]["stop_on_rules"]["items"]["enum"]) == NAMES
    with pytest.raises(TrainingError, match="'Dead', which is not a rule; the rules: VanishingGradient"):
        read_hyperparameters({"stop_on_rules": "Dead"}, print)


class Silent(Tape):
    """Replays without calling a hook, as a GPU does."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.parts, self.optimizer = (learner.network, learner.criterion), learner.optimizer

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        replay = super().record(act)

        def run() -> None:
            with without_hooks(self.parts, self.optimizer):
                replay()

        return run


def test_replayed_steps_are_watched_as_plain_ones_are(tmp_path: Path, healthy: tuple[dict[str, Any], Path]) -> None:
    """The steps that are saved are plain, the others are counted: the same steps are saved, with the same values."""
    tapes: list[Silent] = []

    def replay(learner: Learner) -> None:
        tapes.append(Silent(learner))
        learner.replay = learner.make_replay(tapes[0])

    found = run_case(Case(), tmp_path, ready=replay)
    assert tapes[0].replays > 0.8 * EPOCHS * STEPS
    assert found["rules"] == healthy[0]["rules"]
    steps = [sorted(path.name for path in (folder / "debug/events").iterdir()) for folder in (tmp_path, healthy[1])]
    assert steps[0] == steps[1]


def test_a_module_that_is_put_off_is_loaded_when_something_of_it_is_asked_for() -> None:
    """What smdebug imports and never uses costs no time; whoever uses or imports it later gets the real one."""
    sys.modules.pop("colorsys", None)
    with putting_off("colorsys"):
        import colorsys as promised
    assert "colorsys" not in sys.modules
    assert promised.rgb_to_hsv(1, 0, 0) == (0, 1, 1)

    import colorsys

    assert "rgb_to_hsv" in vars(colorsys)
    with putting_off("colorsys"):
        assert sys.modules["colorsys"] is colorsys
