/** Show the top of a run: what it is, the few numbers that answer "how good is it, what is live, what next", and what can be done. */

import { ask, part } from "../api.js";
import { spark } from "../charts.js";
import { callout, confirmBox, count, dollars, duration, h, isOnItsWay, live, moment, money, ON_ITS_WAY, percent, pill, say } from "../dom.js";
import { tellProgress } from "./progress.js";

export const isOver = (run) => !isOnItsWay(run.status);
const FRESH = 45 * 60_000; // milliseconds; a signed link is valid for an hour
const SHOWN_MISSED = 5;
/**
 * Return a link to a run's file. It is signed for an hour: an old one is signed again when it is pointed at or focused,
 * so that it may be copied or opened in any way, and at the latest when it is followed.
 */
export function signedLink(id, name, address, attributes, text) {
  let [since, renewing] = [Date.now(), null];
  const link = h("a", { href: address, "data-key": name, ...attributes }, text);
  const problem = h("span", { class: "problem", role: "alert" });
  const isOld = () => Date.now() - since >= FRESH;
  const sign = async () => {
    link.href = (await ask(`runs/${part(id)}`)).links[name];
    since = Date.now();
  };
  const renew = () => (renewing ??= sign().finally(() => { renewing = null; }));
  for (const coming of ["pointerenter", "pointerdown", "focus"]) link.addEventListener(coming, () => isOld() && renew().catch(() => {}));
  link.addEventListener("click", async (event) => {
    if (!isOld()) return;
    event.preventDefault();
    problem.remove();
    try {
      await renew();
      link.click();
    } catch (error) {
      problem.textContent = error.message;
      link.after(problem);
    }
  });
  return link;
}

const RETRIED = ["failed", "stopped", "declined", "undecided"];

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
  if (run.status === "deployed") return null;
  const at = reach(run);
  return h("ol", { class: "stages", "aria-label": "Stages" }, [...ON_ITS_WAY, "deployed"].map((stage, index) => {
    const ended = isOver(run) && index === at;
    const state = ended ? "ended" : index < at ? "done" : index === at ? "now" : "ahead";
    const words = { ended: `, ended here (${run.status})`, done: ", done", now: ", now", ahead: ", to come" }[state];
    return h("li", { class: ended ? `ended ${run.status}` : state, "aria-current": state === "now" ? "step" : null }, stage, h("span", { class: "unseen" }, words));
  }));
}

/** Return the name of a job as the page calls it: "trial 3", "the final training". */
export function nameJob(name, run) {
  if (name === run.training?.name || /-train$/.test(name ?? "")) return "the final training";
  const index = run.trials.findIndex((trial) => trial.name === name);
  return index < 0 ? name : `trial ${index + 1}`;
}

/** Return what a run's model is worth: {accuracy, images, low, high, weakest, missed} of the test images; null if unknown. */
export function judge(run) {
  const test = run.metrics?.test;
  if (!Number.isFinite(test?.accuracy)) return null;
  const [low, high] = test.interval ?? [];
  const judged = (test.classes ?? []).filter((each) => each.support);
  const weakest = [...judged].sort((a, b) => a.recall - b.recall || b.support - a.support)[0];
  return {
    accuracy: test.accuracy, images: test.images, low, high, weakest,
    missed: judged.filter((each) => each.recall === 0).map((each) => each.class),
    unjudged: (test.classes ?? []).filter((each) => !each.support).map((each) => each.class),
  };
}

export function listSome(names, most = SHOWN_MISSED) {
  return names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
}

/** Return the cost as a line: what was spent, or while the run goes on what it is expected to cost. */
function tellCost(run) {
  const { spent_usd: spent, expected_usd: first, refined_usd: refined, worst_usd: worst, billed } = run.cost ?? {};
  if (isOver(run)) return Number.isFinite(spent) ? [money(spent, billed), Number.isFinite(first) && ` (expected ${dollars(first)})`] : ["unknown"];
  if (!Number.isFinite(first)) return ["unknown"];
  return [money(spent ?? 0, billed), ` so far, of ${dollars(refined ?? first)} expected`, billed !== false && `, ${dollars(worst)} at most`];
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

/** Return the headline of a run that measured a model. */
function headline(run) {
  const found = judge(run);
  if (!found || !isOver(run)) return null;
  const told = found.images
    ? [`${Math.round(found.accuracy * found.images)} of ${count(found.images, "test image")} right`, h("br"), `95% sure: ${percent(found.low)} to ${percent(found.high)}`]
    : ["of the test images"];
  const weak = found.missed.length ? `${listSome(found.missed)}: no test image of ${found.missed.length === 1 ? "it" : "them"} was recognised` : null;
  return h("div", { class: "headline" },
    h("p", { class: "accuracy" }, h("b", {}, percent(found.accuracy)), h("span", {}, "accuracy"), h("small", {}, told)),
    h("dl", { class: "facts" },
      run.shipped ? fact("Deployed", h("span", { class: "first-letter" }, run.shipped.replace("Deployed: ", ""))) : fact("Deployed", `Nothing: the run ended ${run.status}.`),
      weak ? fact("Cannot do", weak) : found.weakest && fact("Weakest class", found.weakest.recall === 1 ? "none: every test image of every class is right" : [h("b", {}, found.weakest.class), `: ${percent(found.weakest.recall)} of its ${count(found.weakest.support, "test image")} right`]),
      found.unjudged.length > 0 && fact("Not tested", `${listSome(found.unjudged)}: no test image`),
      run.pretrained && fact("Began with", run.pretrained === "none" ? "nothing: trained from scratch" : "pretrained weights (ImageNet)"),
      run.cost && fact("Cost", tellCost(run)),
      run.advice?.length > 0 && fact("Next step", h("span", { class: "first-letter" }, `${run.advice.join("; ").replace(/ \(whippet [^)]*\)/g, "")}.`))));
}

function pace(run, curves) {
  if (isOver(run)) return null;
  const told = tellProgress(run, curves);
  return [
    h("p", { class: "pace" }, run.stopping ? "Stopping. Its jobs end within two minutes; nothing is deployed." : told),
    h("dl", { class: "facts" },
      run.best && fact("Best trial", `${nameJob(run.best.name, run)}, with a score of ${percent(run.best.objective)} on the validation images`),
      run.cost && fact("Cost", tellCost(run))),
  ];
}

/** The head of a run, shown on its own page and, while it runs, in the list of runs. */
export class RunHead {
  constructor({ linked }) {
    this.linked = linked;
    this.hasEnded = false;
    this.title = live((run) => this.drawTitle(run), "div", { class: "run-title" });
    this.body = live((run) => [stages(run), pace(run, run.curves), headline(run), linked && this.drawSpark(run)]);
    this.problem = h("p", { class: "problem", role: "alert" });
    this.going = live((words) => words && callout("info", words.title, h("p", {}, words.text)));
    this.stopping = h("button", { type: "button", class: "danger", hidden: true, onclick: () => this.stop() }, "Stop this run");
    this.retrying = h("button", { type: "button", hidden: true, onclick: () => this.retry() }, "Try again");
    this.links = live((run) => this.drawLinks(run), "span", { class: "links" });
    this.element = h(linked ? "article" : "div", { class: "card run-head" },
      this.title, this.body, this.going, h("div", { class: "actions" }, this.retrying, this.links, this.stopping), this.problem);
  }

  drawTitle(run) {
    const took = run.ended_at && Number.isFinite(run.seconds) ? ` · took ${duration(run.seconds)}` : "";
    const images = run.dataset_report?.images ? ` · ${count(run.dataset_report.images, "image")} in ${count(run.dataset_report.classes.length, "class", "classes")}` : "";
    return [
      h(this.linked ? "h2" : "h1", {}, this.linked ? h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": "title" }, run.dataset) : run.dataset),
      pill(run.status),
      run.status === "deployed" && run.endpoint?.status === "InService" && run.endpoint.serves === run.run_id && h("span", { class: "pill deployed" }, "live"),
      h("p", { class: "about" }, h("code", {}, run.run_id), " · began ", moment(run.created_at), took, images, run.attempt > 1 && ` · attempt ${run.attempt}`),
    ];
  }

  drawSpark(run) {
    const values = newest(run.curves);
    return values.length > 1 && h("div", { class: "spark-place" }, h("span", { class: "hint" }, "validation accuracy, epoch by epoch"), spark(values));
  }

  drawLinks(run) {
    const id = part(run.run_id);
    const isThere = run.status === "deployed" && run.endpoint?.status && run.endpoint.status !== "Deleting";
    const other = isThere && run.endpoint.serves && run.endpoint.serves !== run.run_id ? run.endpoint.serves : null;
    return [
      isThere && h("a", { class: "button", href: `#/models/${part(run.dataset)}`, "data-key": "model" }, other ? "Use the live model" : "Use the model"),
      run.links.report && !this.linked && signedLink(run.run_id, "report", run.links.report, { class: "button", target: "_blank", rel: "noopener" }, "Open the report"),
      run.status === "rejected" && h("a", { class: "button", href: "#/datasets", "data-key": "fix" }, "Upload a fixed version"),
      isOver(run) && run.dataset_report?.ok && run.status !== "superseded" && !this.linked &&
        h("a", { class: "button quiet", href: `#/runs/${id}/again`, "data-key": "again" }, "Run again with changes"),
      run.status === "deployed" && !isThere && h("span", { class: "hint" }, "Its model has been deleted. Run it again to have it back."),
      other && h("span", { class: "hint" }, "Another model has taken its place: ", h("a", { href: `#/runs/${part(other)}`, "data-key": "other" }, other)),
    ];
  }

  show(run, curves = []) {
    if (this.run && this.run.status !== run.status) say(`${run.dataset} is ${run.status}`);
    this.run = run;
    const hadEnded = this.hasEnded;
    this.hasEnded = isOver(run);
    if (hadEnded !== this.hasEnded) this.ended?.(); // the view puts its parts in another order
    const steady = { ...run, links: undefined };
    this.title.show({ ...steady, seconds: this.hasEnded ? run.seconds : 0, billable_seconds: 0, cost: null });
    this.body.show({ ...steady, seconds: 0, curves });
    this.links.show({ ...run, seconds: 0, billable_seconds: 0, cost: null, links: { report: run.links.report } });
    if (this.hasEnded) this.going.show(null);
    this.stopping.hidden = this.hasEnded || Boolean(run.stopping) || this.isAsked;
    this.retrying.hidden = !RETRIED.includes(run.status) || this.linked;
    this.retrying.className = run.decision ? "quiet" : ""; // a model that waits for a person is looked at first
  }

  async look(id, signal) {
    const [run, curves] = await Promise.all([ask(`runs/${part(id)}`, { signal }), ask(`runs/${part(id)}/curves`, { signal })]);
    this.show(run, curves.jobs);
    return JSON.stringify([run.status, run.stopping, run.trials.length, curves.jobs.map((job) => job.epochs.length)]);
  }

  async stop() {
    if (!(await confirmBox(`Stop the run of ${this.run.dataset}?`, "What it has launched is stopped, and nothing is deployed. A model that serves already goes on serving.", "Stop this run"))) return;
    this.isAsked = true;
    this.stopping.hidden = true;
    this.problem.textContent = "";
    this.going.show({ title: "Stopping", text: "Its jobs are being told to end. That takes up to two minutes; nothing is deployed." });
    say("Stopping.");
    try {
      await ask(`runs/${part(this.run.run_id)}/stop`, { method: "POST" });
    } catch (error) {
      this.isAsked = false;
      this.stopping.hidden = false;
      this.going.show(null);
      this.problem.textContent = error.message;
    }
  }

  async retry() {
    this.retrying.disabled = true;
    this.problem.textContent = "";
    this.going.show({ title: "Starting the next attempt", text: "On the same images, with the recipe as it is now. The page opens it as soon as it has begun." });
    try {
      const told = await ask(`runs/${part(this.run.run_id)}/retry`, { method: "POST" });
      say("A new attempt has begun.");
      location.hash = `#/runs/${part(told.run_id)}`;
    } catch (error) {
      this.going.show(null);
      this.problem.textContent = error.message;
    } finally {
      this.retrying.disabled = false;
    }
  }
}

function newest(jobs = []) {
  const busy = jobs.filter((job) => job.epochs.length && !job.best);
  const job = busy.at(-1) ?? jobs.at(-1);
  return job?.epochs.map((epoch) => epoch.valid?.accuracy) ?? [];
}
