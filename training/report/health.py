"""Write the debugger's and the profiler's parts of a report: rules, where time went, what was changed as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from report.charts.curves import draw_phases, draw_throughput, draw_timeline, draw_utilisation
from report.charts.data import Findings
from report.page import Html, figure, fold, note, paragraph, percent, pill, show, table, title

STATUSES = {
    "NoIssuesFound": ("no issues", "good"),
    "IssuesFound": ("issues found", "bad"),
    "NotJudged": ("not judged", "plain"),
    "Error": ("error", "plain"),
}
STEPS_TOLD, OPERATORS_TOLD = 6, 15


def tell_debugger(found: Findings) -> str:
    """Return each rule, whether it found something, and, where a rule ended the training, why."""
    rules = found.file("rules")
    if not rules.get("rules"):
        return note("No rules were run: there is no rules.json. Without smdebug a training is not debugged.")
    parts = []
    if stop := found.file("rule-stop"):
        parts.append(
            f'<p class="note warn">{show(stop.get("rule"))} ended the training at step {show(stop.get("step"))}: '
            f"{show(stop.get('reason'))}</p>"
        )
    hook = rules.get("hook") or {}
    if not hook.get("available", True):
        parts.append(note(f"The hook was not available: {hook.get('reason')}"))
    # The program ranked them: what causes other findings comes first.
    each = sorted(rules["rules"], key=lambda rule: rule.get("status") != "IssuesFound")
    issues = sum(rule.get("status") == "IssuesFound" for rule in each)
    unjudged = sum(rule.get("status") == "NotJudged" for rule in each)
    told = f"{issues} of {len(each)} rules found something." if issues else f"None of {len(each)} rules found anything."
    told += f" {unjudged} could not be judged." if unjudged else ""
    told += " Act on the first one first: it may cause the others." if issues > 1 else ""
    interval = f" Tensors were saved every {hook['save_interval']} steps." if hook.get("save_interval") else ""
    rows = [
        [
            rule.get("name"),
            pill(*STATUSES.get(str(rule.get("status")), (str(rule.get("status")), "plain"))),
            ". ".join(str(rule[name]) for name in ("details", "advice") if rule.get(name)),
            ", ".join(map(str, (rule.get("steps") or [])[:STEPS_TOLD])),
        ]
        for rule in each
    ]
    parts += [
        paragraph(told + interval),
        table(["rule", "status", "what it saw, and what to do", "steps"], rows, numbers=0),
    ]
    parameters = [[rule.get("name"), tell_values(rule.get("parameters"))] for rule in each if rule.get("parameters")]
    if parameters:
        parts.append(fold("The rules' parameters", table(["rule", "parameters"], parameters, numbers=0)))
    return "".join(parts)


def tell_values(values: Any) -> str:
    """Return parameters on one line; AWS's files hold them as lines of text."""
    if not isinstance(values, Mapping):
        return ", ".join(str(values or "").splitlines())
    return ", ".join(f"{name} {value}" for name, value in values.items())


def tell_profiler(found: Findings) -> str:
    """Return before and after, the timeline by phase, utilisation, rules, operators."""
    parts = [tell_plan(found.file("execution_plan")), tell_timeline(found.file("timeline")), tell_utilisation(found)]
    parts += [tell_rules(found.profiler_rules), tell_operators(found.file("operators"))]
    told = "".join(parts)
    return told or note("The training was not profiled: there is neither a timeline nor an execution plan.")


def tell_plan(plan: Mapping[str, Any]) -> str:
    """Return what was tried, what was taken, and what that gained."""
    if not plan:
        return ""
    parts = [title("Before and after"), paragraph(str(plan.get("verdict") or ""))]
    sides = {name: plan.get(name) or {} for name in ("before", "after")}
    if sides["before"] == sides["after"]:
        sides = {"as it is": sides["before"]}
    phases = {name: read_phases(side) for name, side in sides.items() if read_phases(side)}
    if phases:
        rows = [
            [name, sum(phases[name].values()), sides[name].get("images_per_second"), tell_use(sides[name])]
            for name in phases
        ]
        parts.append(table(["", "ms a step", "images/s", "utilisation"], rows))
        where = "in the probe before the training" if plan.get("probed_steps", 1) else "of the first in the training"
        parts.append(figure(draw_phases(phases), f"A mean step by phase, {where}."))
    candidates = plan.get("candidates") or []
    if candidates:
        heads = ["setting", "value", "ms before", "ms after", "gain", "taken"]
        body = [
            [
                each.get("setting"),
                each.get("value"),
                each.get("before_ms"),
                each.get("after_ms"),
                tell_gain(each.get("gain")),
                pill("taken", "good") if each.get("taken") else pill("left", "plain"),
            ]
            for each in candidates
        ]
        parts.append(table(heads, body, numbers=4))
    elif "before" in phases or "as it is" in phases:
        parts.append(paragraph(tell_untried(next(iter(phases.values())))))
    return "".join([*parts, *map(tell_recommendation, plan.get("recommendations") or [])])


def tell_untried(phases: Mapping[str, float]) -> str:
    """Return why no setting was tried: it could save only a small part of the step, or the training was too short."""
    waiting = sum(phases.get(name, 0.0) for name in ("data", "copy")) / max(sum(phases.values()), 1e-9)
    return (
        f"No setting was tried: of a step {waiting:.1%} goes into waiting for images and copying them, and trying may "
        "cost 3% of the training's steps at most."
    )


def tell_use(side: Mapping[str, Any]) -> str:
    """Return how busy the devices were, in per cent."""
    names = {"gpu_utilization": "GPU", "cpu_utilization": "CPU"}
    return ", ".join(
        f"{name} {side[key]:.0f}%" for key, name in names.items() if isinstance(side.get(key), int | float)
    )


def tell_gain(gain: Any) -> str:
    return f"{gain:+.1%}" if isinstance(gain, int | float) else str(gain or "")


def read_phases(side: Mapping[str, Any]) -> dict[str, float]:
    """Return milliseconds by phase, whether phases are given as numbers or as statistics."""
    phases = side.get("phases") or {}
    values = {name: value.get("mean_ms") if isinstance(value, Mapping) else value for name, value in phases.items()}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def tell_recommendation(advice: Mapping[str, Any]) -> str:
    rates = {str(value): float(rate) for value, rate in (advice.get("throughput") or {}).items()}
    told = f'<p class="note warn">{show(advice.get("text"))}</p>'
    if not rates:
        return told
    name = str(advice.get("hyperparameter") or "")
    return told + figure(draw_throughput(rates, name, str(advice.get("current", ""))), f"Throughput by {name}.")


def tell_timeline(timeline: Mapping[str, Any]) -> str:
    """Return where the time of a step went in the training itself."""
    phases = read_phases(timeline)
    if not phases:
        return ""
    rows = [
        [
            name,
            value,
            (timeline["phases"][name] or {}).get("p95_ms"),
            percent((timeline["phases"][name] or {}).get("share")),
        ]
        for name, value in phases.items()
        if isinstance(timeline["phases"][name], Mapping)
    ]
    parts = [title("Where the time went"), figure(draw_phases({"training": phases}), "A mean step of the training.")]
    parts.append(table(["phase", "mean ms", "95th percentile ms", "share"], rows))
    steps = [each for each in timeline.get("steps") or [] if isinstance(each, Mapping)]
    if len(steps) > 1:
        parts.append(figure(draw_timeline(steps), "Sampled steps over the whole training."))
    return "".join(parts)


def tell_utilisation(found: Findings) -> str:
    if not found.utilisation:
        return ""
    means = {name: sum(value for _, value in each) / len(each) for name, each in found.utilisation.items()}
    told = "Means: " + ", ".join(f"{name} {value:.0f}%" for name, value in means.items()) + "."
    return title("Utilisation") + figure(draw_utilisation(found.utilisation), told)


def tell_rules(rules: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the profiler's rules and how often each was triggered."""
    if not rules:
        return ""
    each = sorted(rules.items(), key=lambda pair: (not pair[1].get("RuleTriggered"), pair[0]))
    rows = [
        [
            name,
            judge(rule),
            rule.get("Violations"),
            rule.get("Datapoints"),
            tell_values(rule.get("RuleParameters")),
        ]
        for name, rule in each
    ]
    heads = ["rule", "status", "violations", "datapoints", "parameters"]
    return title("Profiler rules") + table(heads, rows, numbers=0)


def judge(rule: Mapping[str, Any]) -> Html:
    if rule.get("RuleTriggered"):
        return pill("issues found", "bad")
    return pill("no issues", "good") if rule.get("Datapoints") else pill("not judged", "plain")


def tell_operators(operators: Mapping[str, Any]) -> str:
    """Return the operators that took most time, in whatever columns the profiler wrote."""
    listed: Sequence[Any] = operators.get("operators") or operators.get("items") or []
    rows = [each for each in listed if isinstance(each, Mapping)][:OPERATORS_TOLD]
    if not rows:
        return ""
    heads = [name for name in rows[0] if not isinstance(rows[0][name], list | Mapping)]
    body = [[percent(each["share"]) if name == "share" else each.get(name) for name in heads] for each in rows]
    return title("Top operators") + table([name.replace("_", " ") for name in heads], body)
