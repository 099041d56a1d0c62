/** Show one run: what it is doing while it runs, and its outcome afterwards. */

import { ask, part, poll } from "./api.js";
import { lines, spark } from "./charts.js";
import { callout, duration, findings, h, isOnItsWay, live, moment, ON_ITS_WAY, percent, pill, say, section, short, table, tiles } from "./dom.js";
import { showFindings } from "./findings.js";

const MEASURES = [
  ["valid", "score", "Score on the validation split (accuracy − 0.1 × negative log-likelihood)"],
  ["valid", "accuracy", "Accuracy on the validation split"],
  ["valid", "loss", "Loss on the validation split"],
  ["train", "loss", "Loss on the training split"],
];
const KIND = { deployed: "good", failed: "bad", rejected: "bad", stopped: "warn", superseded: "info", declined: "warn", undecided: "warn" };
const ENDING = {
  failed: "This run failed",
  rejected: "This dataset was rejected",
  stopped: "This run was stopped",
  declined: "This model was not good enough to deploy",
  undecided: "It is for you to decide whether this model goes live",
  superseded: "A newer upload took this run's place",
};

const isOver = (run) => !isOnItsWay(run.status);

/** Return how far a run came: the index in ON_ITS_WAY of the stage that it is in, or ended in. */
function reach(run) {
  if (run.status === "waiting") return run.decision ? 3 : run.trials.length ? 2 : 1;
  if (!isOver(run)) return ON_ITS_WAY.indexOf(run.status);
  if (run.status === "deployed") return ON_ITS_WAY.length;
  if (run.decision) return 3;
  if (run.training) return 2;
  return run.trials.length ? 1 : 0;
}

function stages(run) {
  const at = reach(run);
  return h("ol", { class: "stages", "aria-label": "Stages" }, [...ON_ITS_WAY, "deployed"].map((stage, index) => {
    const ended = isOver(run) && run.status !== "deployed" && index === at;
    const state = ended ? "ended" : index < at || run.status === "deployed" ? "done" : index === at ? "now" : "ahead";
    const words = { ended: `, ended here (${run.status})`, done: ", done", now: ", now", ahead: ", to come" }[state];
    return h("li", { class: state, "aria-current": state === "now" ? "step" : null }, stage, h("span", { class: "unseen" }, words));
  }));
}

/** Return the meter: what was spent, beside the estimate and the most that the time limits allow. */
function cost({ spent_usd: spent, expected_usd: first, refined_usd: refined, worst_usd: worst }, over) {
  if (first === null) return ["Cost", "unknown"];
  const told = `of $${((over ? null : refined) ?? first).toFixed(2)} expected, $${worst.toFixed(2)} at most`;
  return ["Cost", spent === null ? "unknown" : `$${spent.toFixed(2)}`, told];
}

function progress(run) {
  const wanted = run.recipe.trials;
  const done = run.trials.filter((trial) => trial.ended_at).length;
  return tiles([
    run.trials.length > 0 && ["Trials", `${done} of ${Math.max(wanted ?? 0, run.trials.length)}`],
    run.best && [isOver(run) ? "Best trial’s score" : "Best score so far", short(run.best.objective)],
    run.metrics?.test && ["Test accuracy", percent(run.metrics.test.accuracy), run.metrics.test.images && `${run.metrics.test.images} images`],
    ["Time", duration(run.seconds)],
    ["Billable", duration(run.billable_seconds), isOver(run) ? null : "so far"],
    run.cost && cost(run.cost, isOver(run)),
  ]);
}

/** Return the top of a run, shown on its own page and, while it runs, in the list of runs. */
export class RunHead {
  constructor({ linked }) {
    this.linked = linked;
    this.hasEnded = false;
    this.title = live((run) => this.drawTitle(run), "div", { class: "run-title" });
    this.body = live((run) => [stages(run), progress(run), this.drawSpark(run)]);
    this.problem = h("p", { class: "problem", role: "alert" });
    this.stopping = h("button", { type: "button", class: "danger", hidden: true, onclick: () => this.act("stop") }, "Stop this run");
    this.retrying = h("button", { type: "button", hidden: true, onclick: () => this.act("retry") }, "Try again");
    this.approving = h("button", { type: "button", hidden: true, onclick: () => this.act("approve") }, "Deploy this model");
    this.links = live((run) => this.drawLinks(run), "span", { class: "links" });
    this.element = h(linked ? "article" : "div", { class: "card run-head" },
      this.title, this.body, h("div", { class: "actions" }, this.links, this.stopping, this.retrying, this.approving), this.problem);
  }

  drawTitle(run) {
    return [
      h(this.linked ? "h2" : "h1", {}, this.linked ? h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": "title" }, run.dataset) : run.dataset),
      pill(run.status),
      h("p", { class: "about" }, h("code", {}, run.run_id), " · began ", moment(run.created_at),
        run.attempt > 1 && ` · attempt ${run.attempt}`),
    ];
  }

  drawSpark(run) {
    return run.curve?.length > 1 && h("div", { class: "spark-place" }, h("span", { class: "hint" }, "score, epoch by epoch"), spark(run.curve));
  }

  drawLinks(run) {
    return [
      run.links.report && !this.linked &&
        h("a", { class: "button", href: run.links.report, target: "_blank", rel: "noopener", "data-key": "report" }, "Open the report"),
      run.status === "deployed" && h("a", { class: "button", href: `#/models/${part(run.dataset)}`, "data-key": "model" }, "Use the model"),
    ];
  }

  show(run, curve) {
    if (this.run && this.run.status !== run.status) say(`${run.dataset} is ${run.status}`);
    this.run = run;
    this.hasEnded = isOver(run);
    const steady = { ...run, links: undefined };
    this.title.show({ ...steady, seconds: 0, billable_seconds: 0, cost: null });
    this.body.show({ ...steady, curve });
    this.links.show(run);
    this.stopping.hidden = this.hasEnded;
    this.retrying.hidden = !["failed", "rejected", "stopped", "declined", "undecided"].includes(run.status);
    this.approving.hidden = !["declined", "undecided"].includes(run.status) || Boolean(run.approval);
  }

  async look(id, signal) {
    const [run, curves] = await Promise.all([ask(`runs/${part(id)}`, { signal }), ask(`runs/${part(id)}/curves`, { signal })]);
    this.show(run, newest(curves.jobs));
    return JSON.stringify([run.status, run.trials.length, curves.jobs.map((job) => job.epochs.length)]);
  }

  async act(what) {
    const button = { stop: this.stopping, retry: this.retrying, approve: this.approving }[what];
    if (what === "stop" && !(await confirmStop(this.run))) return;
    if (what === "approve" && !(await confirmApproval(this.run))) return;
    button.disabled = true;
    this.problem.textContent = "";
    try {
      const told = await ask(`runs/${part(this.run.run_id)}/${what}`, { method: "POST" });
      say({ stop: "Stopping.", retry: "A new attempt has begun.", approve: "It is deployed within minutes." }[what]);
      if (what === "approve") location.reload();
      if (what === "retry") location.hash = `#/runs/${part(told.run_id)}`;
    } catch (error) {
      this.problem.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }
}

function newest(jobs) {
  const busy = jobs.filter((job) => job.epochs.length && !job.best);
  const job = busy.at(-1) ?? jobs.at(-1);
  return job?.epochs.map((epoch) => epoch.valid?.score) ?? [];
}

function confirmStop(run) {
  return confirmBox(`Stop the run of ${run.dataset}?`, "What it has launched is stopped, and nothing is deployed. A model that serves already goes on serving.", "Stop this run");
}

function confirmApproval(run) {
  return confirmBox(`Deploy this model of ${run.dataset}?`, `${run.reason ?? ""} If a model is live, this one takes its place.`, "Deploy this model");
}

/** Ask before something irreversible; Escape and the first button mean no. Resolves to true or false. */
export function confirmBox(title, text, yes) {
  return new Promise((resolve) => {
    const box = h("dialog", { "aria-labelledby": "box-title", onclose: () => { box.remove(); resolve(box.returnValue === "yes"); } },
      h("h2", { id: "box-title" }, title), h("p", {}, text),
      h("div", { class: "actions" },
        h("button", { type: "button", class: "quiet", onclick: () => box.close("no") }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => box.close("yes") }, yes)));
    document.body.append(box);
    box.showModal();
  });
}

function drawReason(run) {
  if (run.status === "waiting") return callout("info", "This run waits its turn", h("p", {}, run.reason));
  if (run.approval && run.status === "deployed") return callout("info", "A person approved this model", h("p", {}, run.decision?.promotion?.because ?? ""));
  if (!isOver(run) || run.status === "deployed") return null;
  const problems = run.dataset_report?.problems ?? [];
  const told = run.status === "rejected" && problems.length > 0; // the reason repeats their sentences
  const title = run.status === "rejected" && !told ? "This run was rejected" : ENDING[run.status];
  return callout(KIND[run.status], title, told ? findings(problems) : run.reason && h("p", {}, run.reason));
}

function drawWarnings(run) {
  const warnings = run.dataset_report?.warnings ?? [];
  return warnings.length > 0 && callout("warn", "Worth knowing about this dataset", findings(warnings));
}

function nameJob(name, run) {
  if (name === run.training?.name) return "final training";
  const index = run.trials.findIndex((trial) => trial.name === name);
  return index < 0 ? name : `trial ${index + 1}`;
}

/** The curves of every job, for a measure that the reader chooses. */
class Curves {
  constructor() {
    this.choice = h("select", { id: "measure", onchange: () => this.draw() }, MEASURES.map(([, , words], index) => h("option", { value: index }, words)));
    this.place = live((data) => this.drawPlot(data));
    this.element = h("section", { class: "card", hidden: true }, h("h2", {}, "Curves"), h("label", { for: "measure" }, "Measure"), this.choice, this.place);
  }

  show(jobs, run) {
    this.data = { jobs, run };
    this.element.hidden = !jobs.some((job) => job.epochs.length);
    this.draw();
  }

  draw() {
    const { jobs, run } = this.data;
    const [split, measure] = MEASURES[this.choice.value];
    const series = jobs.map((job, index) => ({
      name: nameJob(job.name, run),
      colour: index,
      strong: job.name === run.training?.name,
      points: job.epochs.map((epoch) => [epoch.epoch, epoch[split]?.[measure]]).filter((point) => Number.isFinite(point[1])),
    }));
    this.place.show({ series, title: MEASURES[this.choice.value][2], y: measure });
  }

  drawPlot({ series, title, y }) {
    const measured = series.filter((each) => each.points.length);
    const summary = measured.map((each) => `${each.name}: ${short(each.points.at(-1)[1])} after ${each.points.length} epochs`).join("; ");
    const rows = measured.map((each) => [each.name, each.points.length, short(each.points[0][1]), short(each.points.at(-1)[1])]);
    return [
      lines({ series, title, x: "epoch", y, summary }),
      h("details", { "data-key": "curves" }, h("summary", {}, "As a table"), table(title, ["Job", "Epochs", "First", "Last"], rows)),
    ];
  }
}

function drawTrials(run) {
  if (!run.trials.length) return null;
  const names = [...new Set(run.trials.flatMap((trial) => Object.keys(trial.hyperparameters)))].filter((name) => !name.startsWith("_")).sort();
  const best = run.best?.name;
  const rows = run.trials.map((trial, index) => ({
    attributes: { class: trial.name === best ? "best" : null },
    cells: [
      `${index + 1}${trial.name === best ? " ★" : ""}`,
      trial.reason ? h("span", { title: trial.reason }, trial.status) : trial.status,
      short(trial.objective),
      ...names.map((name) => short(trial.hyperparameters[name])),
      trial.started_at ? duration((new Date(trial.ended_at ?? Date.now()) - new Date(trial.started_at)) / 1000) : "–",
    ],
  }));
  const points = run.trials.map((trial, index) => [index + 1, trial.objective]).filter((point) => Number.isFinite(point[1]));
  const measured = { title: "Score by trial", x: "trial", y: "score", summary: `${points.length} trials measured`, series: [{ name: "score", colour: 0, strong: true, loose: true, points }] };
  const failed = run.trials.filter((trial) => trial.reason);
  return section("Tuning",
    table("Trials; the best one has a star", ["Trial", "Status", "Score", ...names.map((name) => name.replaceAll("_", " ")), "Time"], rows),
    failed.length > 0 && findings(failed.map((trial) => ({ message: trial.reason, code: trial.name }))),
    points.length > 2 && lines(measured),
    run.best && [h("h3", {}, "Best hyperparameters"), tiles(Object.entries(run.best.hyperparameters).filter(([name]) => !name.startsWith("_")).map(([name, value]) => [name.replaceAll("_", " "), short(value)]))]);
}

function drawDecision(run) {
  if (!run.decision?.reason) return null;
  const promoted = run.status === "deployed" && !run.approval && run.decision.promotion?.sentence; // else it is the reason
  return callout("info", "What was shipped", h("p", {}, run.decision.reason), promoted && h("p", {}, promoted));
}

function drawDataset(run) {
  const report = run.dataset_report;
  if (!report?.images) return null;
  const splits = Object.entries(report.splits ?? {});
  const classes = report.classes ?? [];
  const rows = classes.map((name) => [name, ...splits.map(([, counts]) => counts[name] ?? 0)]);
  return section("Dataset",
    tiles([["Classes", classes.length], ["Images", short(report.images.total ?? report.images)], ...splits.map(([split, counts]) => [`in ${split}`, Object.values(counts).reduce((sum, each) => sum + each, 0)])]),
    h("details", { "data-key": "classes" }, h("summary", {}, `All ${classes.length} classes`), table("Images by class and split", ["Class", ...splits.map(([split]) => split)], rows)));
}

function drawRecipe(run) {
  return section("To do it again",
    h("p", {}, "Everything that this run read and wrote lies in its folder, its recipe with every default filled in:"),
    h("p", {}, h("code", { class: "wide" }, run.links.folder)),
    h("details", { "data-key": "recipe" }, h("summary", {}, "The recipe"), h("pre", { tabindex: "0" }, JSON.stringify(run.recipe, null, 2))));
}

const SETTLED = 90; // seconds after a run's end within which its report may still arrive

export async function showRun(main, { name, signal }) {
  const id = part(name);
  const head = new RunHead({ linked: false });
  const problem = live((message) => message && callout("warn", "Not up to date", h("p", {}, message)));
  const [reason, warnings, decision] = [live(drawReason), live(drawWarnings), live(drawDecision)];
  const [trials, dataset, recipe] = [live(drawTrials), live(drawDataset), live(drawRecipe)];
  const curves = new Curves();
  const details = live((told) => showFindings(told));

  const look = async () => {
    const run = await ask(`runs/${id}`, { signal });
    const wanted = run.dataset_report?.ok;
    const measured = wanted ? await ask(`runs/${id}/curves`, { signal }) : { jobs: [] };
    const found = run.training ? await ask(`runs/${id}/jobs`, { signal }) : null;
    document.title = `${run.dataset} · Whippet`;
    head.show(run, []);
    for (const each of [reason, warnings, decision, trials, dataset, recipe]) each.show({ ...run, seconds: 0, billable_seconds: 0, cost: null, links: { folder: run.links.folder } });
    curves.show(measured.jobs, run);
    details.show(found && { ...found, metrics: run.metrics });
    problem.show(null);
    const settled = isOver(run) && (run.links.report || !run.training || Date.now() - new Date(run.ended_at) > SETTLED * 1000);
    return settled && run.status !== "stopped" ? null : JSON.stringify([run.status, run.trials, measured.jobs.map((job) => job.epochs.length), Boolean(run.links.report)]);
  };

  const first = look();
  const seen = await first;
  main.append(head.element, problem, reason, decision, warnings, details, curves.element, trials, dataset, recipe);
  let started = seen === null;
  if (started) return;
  poll(signal, () => (started ? look() : ((started = true), first)), (error) => problem.show(error.message));
}
