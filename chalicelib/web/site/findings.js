/** Show what is known about a trained model: how good it is, what the debugger and the profiler saw, what was changed. */

import { bars, confusion } from "./charts.js";
import { callout, duration, h, number, percent, section, short, table, tiles } from "./dom.js";

const MEASURES = [["accuracy", "Accuracy"], ["macro_precision", "Precision"], ["macro_recall", "Recall"], ["macro_f1", "F1"]];
const SHOWN_CLASSES = 20;

export function showFindings(told) {
  if (!told) return null;
  return [drawQuality(told), drawEvaluation(told.evaluation), drawSkipped(told.skipped), drawRules(told), drawProfile(told)];
}

function drawQuality({ evaluation, baseline }) {
  const test = evaluation?.test;
  if (!test) return null;
  const before = baseline?.test;
  const pairs = MEASURES.map(([name, words]) => [words, percent(test[name]), before && Number.isFinite(before[name]) ? `${percent(before[name])} baseline` : null]);
  return section("How good it is",
    h("p", { class: "hint" }, `Measured on ${number(test.images)} test images, which no training saw.`),
    tiles(pairs));
}

function drawEvaluation(evaluation) {
  const test = evaluation?.test;
  if (!test?.classes) return null;
  const rows = test.classes.map((each) => [each.class, percent(each.precision), percent(each.recall), percent(each.f1), number(each.support)]);
  const whole = table("Quality by class", ["Class", "Precision", "Recall", "F1", "Images"], rows);
  return section("Class by class",
    rows.length > SHOWN_CLASSES ? h("details", { "data-key": "by-class" }, h("summary", {}, `All ${rows.length} classes`), whole) : whole,
    test.confusion && [h("h3", {}, "Confusion matrix"), confusion(test.classes.map((each) => each.class), test.confusion)]);
}

function drawSkipped(skipped) {
  const files = skipped?.skipped ?? [];
  if (!files.length) return null;
  const rows = files.map((each) => [text(each.name), text(each.reason), each.format]);
  return section("Skipped images",
    h("p", { class: "hint" }, `${number(files.length)} images could not be read and were left out; ${number(skipped.images)} were used.`),
    h("details", { "data-key": "skipped" }, h("summary", {}, "The files"), table("Skipped images", ["File", "What is wrong", "Its format"], rows)));
}

function drawRules({ rules, rule_stop: stop }) {
  if (!rules) return null;
  const rows = (rules.rules ?? []).map((rule) => [rule.name, verdict(rule.status), text(rule.details)]);
  return section("Debugger",
    stop && callout("warn", `${stop.rule} ended the training at step ${stop.step}`, h("p", {}, stop.reason)),
    rules.hook?.available === false && callout("warn", "The debugger did not run", h("p", {}, rules.hook.reason)),
    rows.length > 0 && table("Rules of the debugger", ["Rule", "Result", "What it saw"], rows));
}

const text = (words) => h("span", { class: "text" }, words ?? "");

function verdict(status) {
  const words = { NoIssuesFound: ["fine", "deployed"], IssuesFound: ["issue found", "failed"], Error: ["not judged", "stopped"] };
  const [text, look] = words[status] ?? [status, "info"];
  return h("span", { class: `pill ${look}` }, text);
}

function drawProfile({ timeline, execution_plan: plan, profiler_rules: reports }) {
  const judged = Object.entries(reports ?? {}).filter(([, report]) => report);
  if (!timeline && !plan && !judged.length) return null;
  return section("Profiler",
    plan?.verdict && h("p", {}, plan.verdict),
    plan && drawBeforeAfter(plan),
    timeline?.phases && [h("h3", {}, "Where a step's time goes"), drawPhases(timeline.phases)],
    judged.length > 0 && table("Rules of the profiler", ["Rule", "Result", "What it saw"], judged.map(([name, report]) => [name, verdict(judge(report)), text(detail(report))])),
    (plan?.recommendations ?? []).length > 0 && [h("h3", {}, "Worth trying"), h("ul", {}, plan.recommendations.map((each) => h("li", {}, each.text)))]);
}

function detail({ Violations: violations, Datapoints: datapoints }) {
  if (!datapoints) return "Nothing of what it judges was measured.";
  return violations ? `${number(violations)} of ${number(datapoints)} data points are beyond its bounds.` : `${number(datapoints)} data points, all within its bounds.`;
}

function judge(report) {
  if (report.RuleTriggered) return "IssuesFound";
  return report.Datapoints ? "NoIssuesFound" : "Error";
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
