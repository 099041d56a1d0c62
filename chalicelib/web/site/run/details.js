/** Show what a run was made of: its trials, its dataset, its recipe, its log. */

import { ask, part } from "../api.js";
import { lines } from "../charts.js";
import { count, duration, findings, h, number, percent, section, short, table, tiles } from "../dom.js";
import { isOver, nameJob } from "./head.js";

const ALL_LINES = 10_000;
const TAIL = 50;
const SCORES = {
  score: "the accuracy less a tenth of the negative log-likelihood, so that of two models that are right as often the surer one wins",
  accuracy: "the accuracy",
  macro_f1: "macro F1, the mean of all classes' F1, in which a small class counts as much as a large one",
};

/** Return a job's status as words: "In progress". */
const inWords = (status) => status.replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

export function drawTrials(run) {
  if (!run.trials.length) return null;
  const names = [...new Set(run.trials.flatMap((trial) => Object.keys(trial.hyperparameters)))].filter((name) => !name.startsWith("_")).sort();
  const best = run.best?.name;
  const rows = run.trials.map((trial, index) => ({
    attributes: { class: trial.name === best ? "best" : null },
    cells: [
      `${index + 1}${trial.name === best ? " ★" : ""}`,
      h("span", { title: trial.reason }, inWords(trial.status)),
      percent(trial.objective),
      ...names.map((name) => short(trial.hyperparameters[name])),
      trial.started_at ? duration((new Date(trial.ended_at ?? Date.now()) - new Date(trial.started_at)) / 1000) : "–",
    ],
  }));
  const points = run.trials.map((trial, index) => [index + 1, trial.objective]).filter((point) => Number.isFinite(point[1]));
  let top = -Infinity;
  const climbed = points.map(([index, value]) => [index, (top = Math.max(top, value))]);
  const measured = { title: "Score by trial", x: "trial", y: "score", format: percent, summary: `${points.length} trials measured`, legend: true,
    series: [{ name: "score", colour: 0, strong: true, loose: true, points }, { name: "best so far", colour: 1, bare: true, points: climbed }] };
  const failed = run.trials.filter((trial) => trial.reason);
  return section("Tuning",
    h("p", { class: "hint" }, `The score is what is tuned, measured on the validation images: ${SCORES[run.recipe.objective] ?? SCORES.score}.`),
    table("Trials; the best one has a star", ["Trial", "Status", "Score", ...names.map((name) => name.replaceAll("_", " ")), "Time"], rows),
    failed.length > 0 && h("details", { "data-key": "failed" }, h("summary", {}, `Why ${count(failed.length, "trial")} failed`), findings(failed.map((trial) => ({ message: trial.reason, code: trial.name })))),
    points.length > 2 && lines(measured),
    run.best && [h("h3", {}, "Best hyperparameters"), tiles(Object.entries(run.best.hyperparameters).filter(([name]) => !name.startsWith("_")).map(([name, value]) => [name.replaceAll("_", " "), short(value)]))]);
}

/** Show the dataset as uploaded; the splits that a training cut from it are in `cut`, by the first line of its metrics. */
export function drawDataset({ run, cut }) {
  const report = run.dataset_report;
  if (!report?.images) return null;
  const splits = Object.entries(report.splits ?? {});
  const classes = report.classes ?? [];
  const rows = classes.map((name) => [name, ...splits.map(([, counts]) => counts[name] ?? 0)]);
  const uploaded = splits.map(([split, counts]) => [split, Object.values(counts).reduce((sum, each) => sum + each, 0)]);
  const trained = cut && Object.entries(cut);
  return section("Dataset",
    tiles([["Classes", classes.length], ["Images", number(report.images)], ...(trained ?? uploaded).map(([split, images]) => [split, number(images)])]),
    h("p", { class: "hint" }, trained
      ? "How many images each split has. Where there were no folders of validation and test images, some of the training images were set aside for that; images that could not be read are left out."
      : "As uploaded. Where there are no folders of validation and test images, some of the training images are set aside for that."),
    h("details", { "data-key": "classes" }, h("summary", {}, `All ${count(classes.length, "class", "classes")}, as uploaded`), table("Images by class and split", ["Class", ...splits.map(([split]) => split)], rows)));
}

export function drawRecipe(run) {
  return section("To do it again",
    h("p", {}, "Everything that this run read and wrote is in its folder, its recipe with every default filled in:"),
    h("p", {}, h("code", { class: "wide" }, run.links.folder)),
    run.billable_seconds > 0 && h("p", { class: "hint" }, `${count(run.trials.length, "trial")}${run.training ? " and the final training" : ""} took ${number(run.billable_seconds)} billable seconds.`),
    h("details", { "data-key": "recipe" }, h("summary", {}, "The recipe"), h("pre", { tabindex: "0" }, JSON.stringify(run.recipe, null, 2))));
}

/** The end of a job's log. It is read only while it is unfolded, and followed while the run goes on. */
export class Log {
  constructor(id, signal) {
    Object.assign(this, { id, signal });
    this.text = h("pre", { class: "log", tabindex: "0", "aria-label": "The last lines of the log" });
    this.about = h("p", { class: "hint" });
    this.whole = h("button", { type: "button", class: "quiet small", onclick: () => this.save() }, "Save the whole log");
    this.fold = h("details", { "data-key": "log", ontoggle: () => this.fold.open && this.look() }, h("summary", {}, "Log"), this.about, this.text, h("div", { class: "actions" }, this.whole));
    this.element = h("section", { class: "card", hidden: true }, this.fold);
  }

  async show(run) {
    this.run = run;
    this.element.hidden = !run.trials.length && !run.training;
    if (this.known !== run.status && (run.status === "failed" || !isOver(run))) this.fold.open = true;
    const ended = this.known && this.known !== run.status;
    this.known = run.status;
    if (this.fold.open && (!isOver(run) || ended || !this.read)) await this.look();
  }

  async look() {
    try {
      const told = await ask(`runs/${part(this.id)}/log?lines=${TAIL}`, { signal: this.signal });
      this.read = this.job = told.job;
      this.about.textContent = told.lines.length ? `The last ${told.lines.length} lines of ${nameJob(told.job, this.run)} (${told.job})` : "Nothing has been logged yet, or the log is no longer kept.";
      const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 8;
      const lines = told.lines.join("\n");
      if (this.text.textContent !== lines) this.text.textContent = lines;
      if (atEnd) this.text.scrollTop = this.text.scrollHeight;
      this.whole.hidden = !told.lines.length;
    } catch (error) {
      if (!this.signal.aborted) this.about.textContent = error.message;
    }
  }

  async save() {
    const told = await ask(`runs/${part(this.id)}/log?lines=${ALL_LINES}${this.job ? `&job=${part(this.job)}` : ""}`);
    const link = h("a", { href: URL.createObjectURL(new Blob([`${told.lines.join("\n")}\n`], { type: "text/plain" })), download: `${told.job}.log` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
