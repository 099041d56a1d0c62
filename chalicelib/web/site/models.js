/** Show the models that serve, and one model that classifies images. */

import { ask, part, poll } from "./api.js";
import { bars } from "./charts.js";
import { bytes, callout, h, live, moment, percent, say, section, tiles } from "./dom.js";
import { confirmBox } from "./run.js";

const TOP = 5;
const LARGEST = 4_000_000; // bytes; Lambda's limit is a little higher
const LONGEST = 2048; // pixels; no model here uses more
const SERVED = ["image/jpeg", "image/png", "image/webp"];

const look = { ready: "deployed", failed: "failed", deleting: "stopped" };
const state = (status) => h("span", { class: `pill ${look[status] ?? "tuning"}` }, status);

function accuracyOf(model) {
  return model.metrics?.test?.accuracy ?? model.metrics?.valid?.accuracy;
}

function card(model) {
  return h("li", { class: "card model" },
    h("h2", {}, h("a", { href: `#/models/${part(model.name)}`, "data-key": model.name }, model.name)),
    state(model.status),
    h("p", { class: "about" }, Number.isFinite(accuracyOf(model)) ? h("span", {}, h("b", {}, percent(accuracyOf(model))), " accuracy · ") : null, "since ", moment(model.updated_at ?? model.created_at)),
    model.run_id && h("p", { class: "about" }, "from ", h("a", { href: `#/runs/${part(model.run_id)}`, "data-key": model.run_id }, model.run_id)));
}

function nothing() {
  return h("div", { class: "card empty" }, h("h2", {}, "No models yet"),
    h("p", {}, "A model is here once a run has deployed it."),
    h("p", {}, h("a", { class: "button", href: "#/datasets" }, "Drop a dataset")));
}

export async function showModels(main, { signal }) {
  const list = live((models) => (models.length ? h("ul", { class: "grid", "aria-label": "Models" }, models.map(card)) : nothing()));
  const problem = live((message) => message && callout("warn", "Not up to date", h("p", {}, message)));
  const known = new Map();
  const see = async () => {
    const { models } = await ask("models", { signal });
    await Promise.all(models.map(async (model) => {
      const key = `${model.status} ${model.updated_at}`;
      if (known.get(model.name)?.key === key) return;
      const told = await ask(`models/${part(model.name)}`, { signal }).catch((error) => (error.status === 404 ? {} : Promise.reject(error)));
      known.set(model.name, { key, told });
    }));
    const whole = models.map((model) => ({ ...known.get(model.name).told, ...model }));
    list.show(whole);
    problem.show(null);
    return JSON.stringify(whole);
  };
  const first = see();
  await first;
  main.append(h("h1", {}, "Models"), problem, list);
  let started = false;
  poll(signal, () => (started ? see() : ((started = true), first)), (error) => problem.show(error.message));
}

/** Return an image that the route accepts: unchanged if possible, otherwise scaled down. */
async function prepare(file) {
  if (file.size <= LARGEST || !file.type.startsWith("image/")) return file;
  const drawn = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(drawn.width, drawn.height));
  const canvas = h("canvas", { width: Math.round(drawn.width * scale), height: Math.round(drawn.height * scale) });
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

/** Return an area that takes files by dropping or choosing, not by pasting. `take(files)` gets them. */
export function dropZone({ id, label, hint, accept, multiple = false, take }) {
  const field = h("input", { id, type: "file", accept, multiple, class: "unseen", onchange: () => { take([...field.files]); field.value = ""; } });
  const zone = h("label", { class: "drop", for: id }, h("b", {}, label), h("span", { class: "hint" }, hint));
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("over", on); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const files = [...event.dataTransfer.files];
    if (files.length) take(multiple ? files : files.slice(0, 1));
  });
  return h("div", { class: "drop-place" }, field, zone);
}

function drawAnswer(answer) {
  const predictions = answer.results[0].predictions;
  return h("div", {},
    bars("Classes, the likeliest first", predictions.map((each) => [each.class, each.probability])),
    h("p", { class: "hint" }, `Answered in ${Math.round(answer.milliseconds)} ms by `, h("a", { href: `#/runs/${part(answer.run_id)}` }, answer.run_id)));
}

class Tester {
  constructor(name, signal) {
    Object.assign(this, { name, signal });
    this.answers = h("ul", { class: "answers", "aria-label": "Answers, the newest first" });
    const zone = dropZone({
      id: "picture", label: "Drop an image, or choose one", hint: "JPEG, PNG or WebP", accept: SERVED.join(), multiple: true,
      take: (files) => files.forEach((file) => this.classify(file)),
    });
    this.element = section("Try it", zone, this.answers);
    signal.addEventListener("abort", () => this.answers.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src)));
  }

  async classify(file) {
    const image = h("img", { src: URL.createObjectURL(file), alt: `The image ${file.name}` });
    image.addEventListener("error", () => image.remove());
    const result = h("div", { class: "result" }, h("p", { class: "hint" }, "Asking the model …"));
    this.answers.prepend(h("li", { class: "answer" }, image, h("div", {}, h("h3", {}, file.name, " ", h("small", {}, bytes(file.size))), result)));
    try {
      const picture = await prepare(file);
      const answer = await ask(`models/${part(this.name)}/predict?top=${TOP}`, { method: "POST", body: picture, type: picture.type || "application/octet-stream", signal: this.signal });
      result.replaceChildren(drawAnswer(answer));
      const best = answer.results[0].predictions[0];
      say(`${file.name}: ${best.class}, ${percent(best.probability)}`);
    } catch (error) {
      if (!this.signal.aborted) result.replaceChildren(callout("bad", "No answer", h("p", {}, error.message ?? "This image cannot be read.")));
    }
  }
}

export async function showModel(main, { name, signal }) {
  const problem = h("p", { class: "problem", role: "alert" });
  const remove = async () => {
    if (!(await confirmBox(`Delete the model ${name}?`, "Its endpoint is taken down, and what it costs ends. Its runs stay readable; a new upload makes a new model.", "Delete the model"))) return;
    problem.textContent = "";
    try {
      await ask(`models/${part(name)}`, { method: "DELETE" });
      say(`The model ${name} is being deleted.`);
      location.hash = "#/models";
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const about = live((model) => [
    h("div", { class: "run-title" }, h("h1", {}, model.name), state(model.status),
      model.run_id && h("p", { class: "about" }, "from ", h("a", { href: `#/runs/${part(model.run_id)}`, "data-key": "run" }, model.run_id), " · since ", moment(model.updated_at ?? model.created_at))),
    model.reason && callout("bad", "Its endpoint failed", h("p", {}, model.reason)),
    model.metrics && tiles([["accuracy", "Test accuracy"], ["macro_precision", "Precision"], ["macro_recall", "Recall"], ["macro_f1", "F1"]]
      .map(([measure, words]) => model.metrics.test?.[measure] !== undefined && [words, percent(model.metrics.test[measure])])),
  ]);
  const see = async () => {
    const model = await ask(`models/${part(name)}`, { signal });
    about.show(model);
    return ["ready", "failed"].includes(model.status) ? null : model.status;
  };
  const seen = await see();
  main.append(
    h("div", { class: "card run-head" }, about, h("div", { class: "actions" }, h("button", { type: "button", class: "danger", onclick: remove }, "Delete this model")), problem),
    new Tester(name, signal).element);
  if (seen !== null) poll(signal, see, (error) => { problem.textContent = error.message; });
}

