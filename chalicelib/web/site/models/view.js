/** Show the models that serve, and one model: how good it is, how to use it, its versions. */

import { ask, firstLook, part } from "../api.js";
import { callout, confirmBox, count, h, live, moment, number, percent, pill, say, section, staleness, table } from "../dom.js";
import { judge, listSome } from "../run/head.js";
import { drawPromotion } from "../run/promotion.js";
import { drawComparison } from "../run/quality.js";
import { drawCode } from "./code.js";
import { Tester } from "./tester.js";

const LISTED = 200;
const look = { ready: "deployed", failed: "failed", deleting: "stopped" };
const state = (status) => h("span", { class: `pill ${look[status] ?? "tuning"}` }, status === "ready" ? "live" : status);
const leaving = new Set(); // models whose deletion was asked for: the list says so before the app has answered

function accuracyOf(model) {
  return model.metrics?.test?.accuracy ?? model.metrics?.valid?.accuracy;
}

function card(model) {
  const test = model.metrics?.test;
  const [low, high] = test?.interval ?? [];
  return h("li", { class: "card model" },
    h("h2", {}, h("a", { href: `#/models/${part(model.name)}`, "data-key": model.name }, model.name)),
    state(leaving.has(model.name) ? "deleting" : model.status),
    h("p", { class: "about" }, Number.isFinite(accuracyOf(model)) ? [h("b", {}, percent(accuracyOf(model))), " accuracy", test?.interval && ` (${percent(low)} to ${percent(high)})`, " · "] : null,
      test?.classes && `${count(test.classes.length, "class", "classes")} · `, "since ", moment(model.updated_at ?? model.created_at)),
    model.run_id && h("p", { class: "about" }, "from ", h("a", { href: `#/runs/${part(model.run_id)}`, "data-key": model.run_id }, model.run_id)));
}

function nothing() {
  return h("div", { class: "card empty" }, h("h2", {}, "No models yet"),
    h("p", {}, "A model is here once a run has deployed it."),
    h("p", {}, h("a", { class: "button", href: "#/datasets" }, "Upload a dataset")));
}

export async function showModels(main, { signal }) {
  const list = live(({ models }) => (models.length ? h("ul", { class: "grid", "aria-label": "Models" }, models.map(card)) : nothing()));
  const problem = staleness();
  const known = new Map();
  const see = async () => {
    const { models } = await ask("models", { signal });
    await Promise.all(models.map(async (model) => {
      const key = `${model.status} ${model.updated_at}`;
      if (known.get(model.name)?.key === key) return;
      const told = await ask(`models/${part(model.name)}`, { signal }).catch((error) => (error.status === 404 ? {} : Promise.reject(error)));
      known.set(model.name, { key, told });
    }));
    for (const name of leaving) if (!models.some((model) => model.name === name)) leaving.delete(name);
    const whole = models.map((model) => ({ ...known.get(model.name).told, ...model }));
    list.show({ models: whole, leaving: [...leaving] });
    problem.show(null);
    return JSON.stringify([whole, [...leaving]]);
  };
  const go = await firstLook(see, signal, (error) => problem.show(error.message));
  main.append(h("h1", {}, "Models"), problem, list);
  go();
}

/** Take a model down. The list says at once that it is going; a refusal puts it back. */
async function remove(name, problem) {
  if (!(await confirmBox(`Delete the model ${name}?`, "Its endpoint is taken down, and with it its cost on AWS. Its runs stay readable; running one again makes a new model.", "Delete the model"))) return;
  problem.textContent = "";
  leaving.add(name);
  say(`The model ${name} is being deleted.`);
  location.hash = "#/models";
  try {
    await ask(`models/${part(name)}`, { method: "DELETE" });
  } catch (error) {
    leaving.delete(name);
    document.querySelector("main h1")?.after(callout("bad", `${name} was not deleted`, h("p", {}, error.message)));
  }
}

function drawAbout(model) {
  const found = judge(model);
  const classes = model.metrics?.test?.classes?.map((each) => each.class) ?? [];
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return [
    h("div", { class: "run-title" }, h("h1", {}, model.name), state(model.status),
      h("p", { class: "about" }, model.run_id && ["from ", h("a", { href: `#/runs/${part(model.run_id)}`, "data-key": "run" }, model.run_id), " · "], "since ", moment(model.updated_at ?? model.created_at))),
    model.reason && callout("bad", "Its endpoint failed", h("p", {}, model.reason)),
    found && h("div", { class: "headline" },
      h("p", { class: "accuracy" }, h("b", {}, percent(found.accuracy)), h("span", {}, "accuracy"),
        h("small", {}, found.images ? [`of ${count(found.images, "test image")}`, h("br"), `95% sure: ${percent(found.low)} to ${percent(found.high)}`] : "of the test images")),
      h("dl", { class: "facts" },
        classes.length > 0 && fact(`Classes (${classes.length})`, listSome(classes, 24)),
        found.missed.length > 0 ? fact("Cannot do", listSome(found.missed)) : found.weakest && fact("Weakest class", h("b", {}, found.weakest.class), `: ${percent(found.weakest.recall)} of its ${count(found.weakest.support, "test image")} right`))),
  ];
}

/** Every run of the dataset that made a model, the newest first. */
function drawVersions({ runs, name, serving }) {
  const made = runs.filter((run) => run.dataset === name && Number.isFinite(run.accuracy));
  if (!made.length) return null;
  return section("Versions", table("Versions of the model, the newest first", ["Run", "Accuracy", "Images", "Began"],
    made.map((run) => [[h("a", { href: `#/runs/${part(run.run_id)}` }, run.run_id), " ", run.run_id === serving ? h("span", { class: "pill deployed" }, "live") : pill(run.status)], percent(run.accuracy), number(run.images), moment(run.created_at)])));
}

async function drawChallenger(runs, name, signal) {
  const waiting = runs.find((run) => run.dataset === name && run.status === "undecided");
  if (!waiting) return null;
  const [run, { comparison }] = await Promise.all([ask(`runs/${part(waiting.run_id)}`, { signal }), ask(`runs/${part(waiting.run_id)}/jobs`, { signal })]);
  const more = h("p", {}, "The new model is of the run ", h("a", { href: `#/runs/${part(run.run_id)}` }, run.run_id), ".");
  return [drawPromotion(run, more), drawComparison(comparison)].filter(Boolean);
}

export async function showModel(main, { name, signal }) {
  const problem = h("p", { class: "problem", role: "alert" });
  const [about, code, versions, challenger] = [live(drawAbout), live(drawCode), live(drawVersions), h("div", {})];
  const tester = new Tester(name, signal);
  const see = async () => {
    const model = await ask(`models/${part(name)}`, { signal });
    about.show(model);
    code.show({ name });
    tester.know(model);
    return ["ready", "failed"].includes(model.status) ? null : model.status;
  };
  const go = await firstLook(see, signal, (error) => { problem.textContent = error.message; });
  const { runs } = await ask(`runs?limit=${LISTED}`, { signal });
  const serving = tester.model.run_id;
  versions.show({ runs, name, serving });
  const waiting = await drawChallenger(runs, name, signal);
  if (waiting) challenger.append(...waiting);
  main.append(
    h("div", { class: "card run-head" }, about), challenger, tester.element, code, versions,
    section("Delete", h("p", { class: "hint" }, "This takes the endpoint down, and ends its cost on AWS. The runs stay."),
      h("div", { class: "actions" }, h("button", { type: "button", class: "danger", onclick: () => remove(name, problem) }, "Delete this model")), problem));
  go();
}
