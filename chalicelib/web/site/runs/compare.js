/** Compare two runs: what changed in recipe and data, the difference with its interval, the curves over each other. */

import { ask, part } from "../api.js";
import { duration, h, moment, money, number, percent, pill, section, table } from "../dom.js";
import { Curves } from "../run/curves.js";
import { judge } from "../run/head.js";

const SHOWN = 12;

async function read(id, signal) {
  const [run, curves] = await Promise.all([ask(`runs/${part(id)}`, { signal }), ask(`runs/${part(id)}/curves`, { signal })]);
  return { run, jobs: curves.jobs, found: judge(run) };
}

/** Return the members in which two documents differ, by their paths. */
export function differ(a, b, path = "") {
  const isTree = (each) => each && typeof each === "object" && !Array.isArray(each);
  if (!isTree(a) || !isTree(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [[path, a, b]];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((name) => differ(a[name], b[name], path ? `${path}.${name}` : name));
}

const plain = (value) => (value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** Return the 95 % interval of the difference of two accuracies, each on images of its own (Newcombe's). */
export function difference(a, b) {
  const delta = b.accuracy - a.accuracy;
  return [delta, delta - Math.hypot(b.accuracy - b.low, a.high - a.accuracy), delta + Math.hypot(b.high - b.accuracy, a.accuracy - a.low)];
}

function verdict(a, b) {
  if (!a.found?.images || !b.found?.images) return h("p", {}, "At least one of them has measured no model, so they cannot be compared by accuracy.");
  const [delta, low, high] = difference(a.found, b.found);
  const points = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value * 100).toFixed(1)}`;
  const sure = low > 0 ? "the second is better" : high < 0 ? "the first is better" : "with so few test images neither is surely better";
  return h("p", { class: "accuracy" }, h("b", {}, `${points(delta)} points`), h("span", {}, `95% sure: ${points(low)} to ${points(high)}`), h("small", {}, sure));
}

export async function showComparison(main, { name, signal }) {
  const ids = name.split("/").map(decodeURIComponent);
  const found = await Promise.all(ids.map((id) => read(id, signal)));
  const [a, b] = found.sort((one, other) => new Date(one.run.created_at) - new Date(other.run.created_at));
  const heads = ["", ...[a, b].map((each, index) => h("a", { href: `#/runs/${part(each.run.run_id)}` }, `${index ? "second" : "first"}: ${each.run.dataset}`))];
  const both = (words, tell) => [words, tell(a), tell(b)];
  const classes = [a, b].map((each) => each.run.dataset_report?.classes ?? []);
  const [gone, added] = [classes[0].filter((each) => !classes[1].includes(each)), classes[1].filter((each) => !classes[0].includes(each))];
  const list = (names) => (names.length ? `${names.slice(0, SHOWN).join(", ")}${names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ""}` : "none");
  const changed = differ(a.run.recipe, b.run.recipe);
  const curves = new Curves("Curves of the final trainings");
  curves.show([a, b].map((each, index) => {
    const job = each.jobs.find((one) => one.name === each.run.training?.name) ?? each.jobs.at(-1);
    return { name: `${index ? "second" : "first"} (${each.run.run_id})`, epochs: job?.epochs ?? [], strong: Boolean(index) };
  }));
  main.append(h("h1", {}, "Two runs compared"),
    section("The difference", verdict(a, b),
      table("Both runs", heads, [
        both("Run", ({ run }) => h("code", {}, run.run_id)),
        both("Began", ({ run }) => moment(run.created_at)),
        both("Status", ({ run }) => pill(run.status)),
        both("Accuracy", ({ found }) => (found ? `${percent(found.accuracy)}${found.images ? ` (${percent(found.low)} to ${percent(found.high)})` : ""}` : "–")),
        both("Test images", ({ found }) => number(found?.images)),
        both("Weakest class", ({ found }) => (found?.weakest ? `${found.weakest.class}, ${percent(found.weakest.recall)}` : "–")),
        both("Took", ({ run }) => duration(run.seconds)),
        both("Cost", ({ run }) => money(run.cost?.spent_usd, run.cost?.billed, { short: true })),
      ], { class: "wrap" })),
    section("What changed in the recipe", changed.length
      ? table("Members of the recipe that differ", ["Member", "First", "Second"], changed.map(([path, one, other]) => [path, plain(one), plain(other)]), { class: "wrap" })
      : h("p", {}, "Nothing: both have the same recipe.")),
    section("What changed in the data",
      table("The datasets", ["", "First", "Second"], [
        ["Images", ...[a, b].map(({ run }) => number(run.dataset_report?.images))],
        ["Classes", ...classes.map((each) => number(each.length))],
      ]),
      h("p", {}, `Classes that are gone: ${list(gone)}. New classes: ${list(added)}.`)),
    curves.element);
}
