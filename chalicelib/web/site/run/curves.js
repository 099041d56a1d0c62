/** Show the curves of every job, train beside validation, in the measure that the reader chooses. */

import { lines } from "../charts.js";
import { h, live, percent, short, table } from "../dom.js";
import { nameJob } from "./head.js";

const MEASURES = [["accuracy", "Accuracy"], ["loss", "Loss"], ["macro_f1", "Macro F1"], ["score", "Score (accuracy − 0.1 × negative log-likelihood)"]];
const SPLITS = [["valid", "Validation"], ["train", "Training"]];
const shown = { accuracy: percent, macro_f1: percent, score: percent, loss: short };

export class Curves {
  constructor(title = "Curves") {
    this.title = title;
    this.choice = h("select", { id: "measure", onchange: () => this.draw() }, MEASURES.map(([measure, words]) => h("option", { value: measure }, words)));
    this.place = live((data) => this.drawPlots(data));
    this.element = h("section", { class: "card", hidden: true }, h("h2", {}, title),
      h("p", { class: "row" }, h("label", { for: "measure" }, "Measure"), this.choice), this.place);
  }

  /** Show jobs: {name, epochs, strong}. */
  show(jobs) {
    this.jobs = jobs;
    this.element.hidden = !jobs.some((job) => job.epochs.length);
    this.draw();
  }

  draw() {
    const measure = this.choice.value;
    const sides = SPLITS.map(([split, title]) => ({
      split, title,
      series: this.jobs.map((job, index) => ({
        name: job.name, colour: index, strong: job.strong,
        points: job.epochs.map((epoch) => [epoch.epoch, epoch[split]?.[measure]]).filter((point) => Number.isFinite(point[1])),
      })).filter((each) => each.points.length),
    })).filter((side) => side.series.length);
    this.place.show({ measure, sides });
  }

  drawPlots({ measure, sides }) {
    const words = MEASURES.find(([name]) => name === measure)[1];
    const values = sides.flatMap((side) => side.series.flatMap((each) => each.points.map((point) => point[1])));
    const range = [Math.min(...values), Math.max(...values)];
    return [
      h("div", { class: "beside" }, sides.map(({ split, title, series }) => {
        const ends = series.map((each) => `${each.name}: ${shown[measure](each.points.at(-1)[1])} after ${each.points.length} epochs`).join("; ");
        const all = series.flatMap((each) => each.points.map((point) => point[1]));
        const best = split === "valid" && (measure === "loss" ? Math.min(...all) : Math.max(...all));
        const level = split === "valid" ? { value: best, text: `best so far ${shown[measure](best)}` } : null;
        return h("div", {}, h("h3", {}, title), lines({ series, title: `${words}, ${title.toLowerCase()} images`, x: "epoch", y: measure, summary: ends, range, level, format: shown[measure], legend: split === "valid" }));
      })),
      h("details", { "data-key": "curves" }, h("summary", {}, "As a table"),
        table(words, ["Job", "Images", "Epochs", "First", "Last", "Best"], sides.flatMap(({ title, series }) => series.map((each) => {
          const all = each.points.map((point) => point[1]);
          return [each.name, title, all.length, shown[measure](all[0]), shown[measure](all.at(-1)), shown[measure](measure === "loss" ? Math.min(...all) : Math.max(...all))];
        })))),
    ];
  }
}

/** Return the jobs of a run as the curves show them: the final training stands out. */
export function listJobs(jobs, run) {
  return jobs.map((job) => ({ name: nameJob(job.name, run).replace(/^the /, ""), epochs: job.epochs, strong: job.name === run.training?.name || /-train$/.test(job.name) }));
}
