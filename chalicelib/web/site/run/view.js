/** Show one run: how good it is, what is live and what to do next; below that everything that is known of it. */

import { ask, firstLook, part } from "../api.js";
import { callout, findings, h, live, paragraphs, staleness, ticked, unusual } from "../dom.js";
import { Curves, listJobs } from "./curves.js";
import { drawDataset, drawRecipe, drawTrials, Log } from "./details.js";
import { isOver, RunHead } from "./head.js";
import { drawHealth } from "./health.js";
import { drawPromotion } from "./promotion.js";
import { drawQuality } from "./quality.js";

const KIND = { failed: "bad", rejected: "bad", stopped: "warn", superseded: "info" };
const ENDING = {
  failed: "This run failed",
  rejected: "Not accepted. Fix this, then upload it again",
  stopped: "This run was stopped",
  superseded: "A newer upload took this run's place",
};
const SETTLED = 90; // seconds after a run's end within which its report may still arrive

function drawReason(run) {
  if (run.status === "waiting") return callout("info", "This run waits its turn", paragraphs(run.reason));
  if (!isOver(run)) return run.reason && callout("warn", "A call to AWS keeps failing; it is tried again", paragraphs(run.reason));
  if (!ENDING[run.status]) return null; // what became of a model says promotion.js
  const problems = run.dataset_report?.problems ?? [];
  const told = run.status === "rejected" && problems.length > 0; // the reason repeats their sentences
  const title = run.status === "rejected" && !told ? "This run was rejected" : ENDING[run.status];
  const next = run.status === "failed" && !/try (the run )?again/.test(run.reason) && h("p", {}, "What to do: fix what it names, then try again. The end of the log is below.");
  return callout(KIND[run.status], title, told ? findings(problems) : paragraphs(run.reason), next);
}

function drawWarnings(run) {
  const warnings = unusual(run.dataset_report?.warnings ?? []);
  return [
    run.notes?.length > 0 && callout("info", "Not as the recipe asks", run.notes.map((note) => h("p", {}, ticked(note)))),
    warnings.length > 0 && callout("warn", "Worth knowing about this dataset", findings(warnings)),
  ];
}

export async function showRun(main, { name, signal }) {
  const id = part(name);
  const head = new RunHead({ linked: false });
  const problem = staleness();
  const [reason, warnings, promotion] = [live(drawReason), live(drawWarnings), live(drawPromotion)];
  const [trials, dataset, recipe] = [live(drawTrials), live(drawDataset), live(drawRecipe)];
  const [quality, health] = [live(drawQuality), live(drawHealth)];
  const [curves, log] = [new Curves(), new Log(name, signal)];
  let pictures = null;

  const look = async () => {
    const run = await ask(`runs/${id}`, { signal });
    const [measured, found] = await Promise.all([
      run.dataset_report?.ok ? ask(`runs/${id}/curves`, { signal }) : { jobs: [] },
      run.training ? ask(`runs/${id}/jobs`, { signal }) : null,
    ]);
    if (found && isOver(run)) pictures ??= await ask(`runs/${id}/pictures`, { signal });
    document.title = `${run.dataset} · Whippet`;
    head.show(run, measured.jobs);
    const steady = { ...run, seconds: 0, cost: null, links: { folder: run.links.folder } };
    for (const each of [reason, warnings, promotion, trials, recipe]) each.show(isOver(run) ? steady : { ...steady, billable_seconds: null });
    dataset.show({ run: { dataset_report: run.dataset_report }, cut: measured.jobs.find((job) => job.start?.images)?.start.images });
    curves.show(listJobs(measured.jobs, run));
    if (found) {
      quality.show({ ...found, pictures, fixes: isOver(run) ? run.links.fixes : null, run: name });
      health.show(found);
    }
    log.show(run);
    problem.show(null);
    const settled = isOver(run) && (run.links.report || !run.training || Date.now() - new Date(run.ended_at) > SETTLED * 1000);
    return settled && run.status !== "stopped" ? null : JSON.stringify([run.status, run.stopping, run.trials, measured.jobs.map((job) => job.epochs.length), Boolean(run.links.report)]);
  };

  /** Put the parts in order: a run that goes on begins with its curves and log, an ended one with how good it is. */
  function arrange() {
    const parts = head.hasEnded ? [quality, health, curves.element, trials, dataset, recipe, log.element] : [curves.element, log.element, trials, quality, health, dataset, recipe];
    const first = head.run.status === "failed" ? [log.element, warnings] : [warnings];
    main.append(head.element, problem, reason, promotion, ...first, ...parts.filter((each) => !first.includes(each)));
  }

  const go = await firstLook(look, signal, (error) => problem.show(error.message));
  arrange();
  head.ended = arrange;
  go();
}
