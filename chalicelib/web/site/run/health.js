/** Show whether the training was healthy: one line for the debugger, one for the profiler; the details fold. */

import { bars } from "../charts.js";
import { callout, count, duration, h, number, percent, section, short, table, tiles } from "../dom.js";

const text = (words) => h("span", { class: "text" }, words ?? "");
const WORDS = { passed: ["passed", "deployed"], look: ["look at it", "failed"], none: ["not judged", "info"], error: ["broke", "stopped"] };

/** Return what a rule of the debugger came to. One that judged nothing has not passed. */
function judgeRule({ status, details }) {
  if (status === "IssuesFound") return "look";
  if (status === "Error") return "error";
  return status !== "NoIssuesFound" || /^nothing (was |to )judge/i.test(details ?? "") ? "none" : "passed";
}

function judgeReport({ RuleTriggered: triggered, Datapoints: datapoints }) {
  if (triggered) return "look";
  return datapoints ? "passed" : "none";
}

const mark = (verdict) => h("span", { class: `pill ${WORDS[verdict][1]}` }, WORDS[verdict][0]);

/** Return "12 checks passed, 1 to look at, 2 not judged". */
function summarise(verdicts) {
  const of = (kind) => verdicts.filter((each) => each === kind).length;
  const parts = [`${count(of("passed"), "check")} passed`];
  if (of("look")) parts.push(`${of("look")} to look at`);
  if (of("error")) parts.push(`${of("error")} broke`);
  if (of("none")) parts.push(`${of("none")} had nothing to judge`);
  return parts.join(", ");
}

const ORDER = ["look", "error", "passed", "none"];
const sorted = (rows) => rows.sort((a, b) => ORDER.indexOf(a.verdict) - ORDER.indexOf(b.verdict));

export function drawHealth(told) {
  const parts = [drawRules(told), drawProfile(told)].filter(Boolean);
  return parts.length > 0 && section("Health of the training", parts);
}

function drawRules({ rules, rule_stop: stop }) {
  if (!rules) return null;
  const judged = sorted((rules.rules ?? []).map((rule) => ({ name: rule.name, verdict: judgeRule(rule), details: [rule.details?.replace(/\.$/, ""), rule.advice].filter(Boolean).join(". ") })));
  const looks = judged.filter((each) => each.verdict === "look");
  const summary = rules.hook?.available === false ? `did not run (${rules.hook.reason})` : summarise(judged.map((each) => each.verdict));
  return [
    stop && callout("warn", `${stop.rule} ended the training at step ${stop.step}`, h("p", {}, stop.reason)),
    h("details", { "data-key": "debugger" }, h("summary", {}, "Debugger: ", summary),
      judged.length > 0 && table("Rules of the debugger", ["Rule", "Result", "What it saw"], judged.map((each) => [each.name, mark(each.verdict), text(each.details)]))),
    looks.length > 0 && h("ul", { class: "findings" }, looks.map((each) => h("li", {}, h("b", {}, each.name), `: ${each.details}`))),
  ];
}

/** Hide the rules of hardware that the machine does not have: they judged nothing. */
const isThere = ([name, report]) => report && (report.Datapoints || !/gpu/i.test(name));

function drawProfile({ timeline, execution_plan: plan, profiler_rules: reports }) {
  const judged = sorted(Object.entries(reports ?? {}).filter(isThere).map(([name, report]) => ({ name, verdict: judgeReport(report), report })));
  if (!timeline && !plan && !judged.length) return null;
  const words = [judged.length > 0 && summarise(judged.map((each) => each.verdict)), plan?.verdict].filter(Boolean);
  return h("details", { "data-key": "profiler" }, h("summary", {}, "Profiler: ", words.join(". ") || "it measured the steps"),
    h("div", { class: "folded" },
      plan && drawBeforeAfter(plan),
      timeline?.phases && [h("h3", {}, "Where a step's time goes"), drawPhases(timeline.phases)],
      judged.length > 0 && table("Rules of the profiler", ["Rule", "Result", "What it saw"], judged.map((each) => [each.name, mark(each.verdict), text(detail(each.report))])),
      (plan?.recommendations ?? []).length > 0 && [h("h3", {}, "Worth trying"), h("ul", { class: "findings" }, plan.recommendations.map((each) => h("li", {}, each.text)))]));
}

function detail({ Violations: violations, Datapoints: datapoints }) {
  if (!datapoints) return "Nothing of what it judges was measured.";
  return violations ? `${number(violations)} of ${number(datapoints)} data points are beyond its bounds.` : `${number(datapoints)} data points, all within its bounds.`;
}

function drawPhases(phases) {
  const rows = Object.entries(phases).filter(([, phase]) => Number.isFinite(phase?.share)).sort((a, b) => b[1].share - a[1].share);
  return bars("Share of a step by phase", rows.map(([name, phase]) => [name, phase.share, `${percent(phase.share, 0)} · ${short(phase.mean_ms)} ms`]));
}

function drawBeforeAfter({ before, after, candidates = [] }) {
  const tried = candidates.map((each) => [each.setting.replaceAll("_", " "), short(each.value), duration(each.before_ms / 1000), duration(each.after_ms / 1000), each.taken ? "taken" : "left"]);
  return [
    before && after && tiles([
      ["Images a second before", short(before.images_per_second)],
      ["Images a second after", short(after.images_per_second)],
    ]),
    tried.length > 0 && table("What was tried", ["Setting", "Value", "Step before", "Step after", ""], tried),
  ];
}
