/** Say how far a run is and how long it will take, from what its jobs have written so far. Pure. */

import { duration } from "../dom.js";

const AFTER_AN_EPOCH = 8; // seconds that a job takes beside its epochs: starting, evaluating, storing
const AFTER_TRAINING = 15; // more for the final training, which is profiled and draws the report

const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
const seconds = (start, end) => (new Date(end ?? Date.now()) - new Date(start)) / 1000;

/** Return one line: "Trial 3 of 6, epoch 2 of 8, about 4 min left". */
export function tellProgress(run, jobs = []) {
  if (run.status === "waiting") return "It waits its turn and goes on by itself.";
  if (run.status === "checking") return "Checking the images. It takes seconds to a few minutes.";
  if (run.status === "deploying" && run.approval && [undefined, null, "InService"].includes(run.endpoint?.status)) return "Approved. Its deployment begins within two minutes.";
  if (run.status === "deploying") return "The model is trained. Its endpoint is being started, which takes a few minutes on AWS.";
  const wanted = Math.max(run.recipe.trials ?? 0, run.trials.length);
  const busy = run.trials.filter((trial) => !trial.ended_at);
  const words = [];
  if (run.status === "tuning") {
    const ended = run.trials.length - busy.length;
    words.push(`Trial ${Math.min(ended + 1, wanted)} of ${wanted}`, tellEpoch(find(jobs, busy[0]?.name)));
  } else {
    const job = find(jobs, run.training?.name);
    words.push(...(job?.best ? ["Final training done", "comparing it with a baseline"] : ["Final training", tellEpoch(job)]));
  }
  const left = estimate(run, jobs, wanted);
  const told = left === null ? tellExpected(run) : `about ${round(left)} left`;
  return `${[...words, told].filter(Boolean).join(", ")}.`;
}

const find = (jobs, name) => jobs.find((job) => job.name === name);

function tellEpoch(job) {
  if (!job?.start?.epochs) return "starting";
  return `epoch ${Math.min(job.epochs.length + 1, job.start.epochs)} of ${job.start.epochs}`;
}

/** Return how many seconds are left, by the epochs and trials so far; null before the first epoch. */
export function estimate(run, jobs, wanted) {
  const measured = jobs.filter((job) => job.epochs.length);
  if (!measured.length) return null;
  const each = mean(measured.map((job) => mean(job.epochs.map((epoch) => epoch.seconds ?? 0))));
  const epochs = measured[0].start?.epochs ?? run.recipe.epochs ?? 1;
  const ended = run.trials.filter((trial) => trial.started_at && trial.ended_at);
  const trial = ended.length ? mean(ended.map((one) => seconds(one.started_at, one.ended_at))) : each * epochs + AFTER_AN_EPOCH;
  const rest = each * epochs + AFTER_TRAINING; // the baseline has as many epochs
  const training = Math.max(trial, each * epochs + AFTER_AN_EPOCH) + rest;
  if (run.status === "training") {
    const job = find(jobs, run.training?.name);
    if (job?.best) return Math.max(0, each * job.epochs.length + rest - seconds(run.training.started_at));
    return job?.start ? Math.max(0, (job.start.epochs - job.epochs.length) * each) + rest : training;
  }
  const busy = run.trials.filter((one) => one.started_at && !one.ended_at);
  const open = Math.max(0, wanted - run.trials.length) * trial + busy.reduce((sum, one) => sum + Math.max(0, trial - seconds(one.started_at)), 0);
  return open / Math.max(1, run.recipe.parallel_trials ?? 1) + training;
}

/** Say what is expected before anything is measured. */
function tellExpected(run) {
  const { trials, training } = run.cost?.jobs ?? {};
  const sum = (trials?.expected_seconds ?? NaN) / Math.max(1, run.recipe.parallel_trials ?? 1) + (training?.expected_seconds ?? NaN);
  return Number.isFinite(sum) ? `about ${round(sum)} expected on AWS's machines; the first epoch will tell better` : "the first epoch will tell how long it takes";
}

function round(value) {
  if (value < 55) return `${Math.max(5, Math.ceil(value / 5) * 5)} s`;
  if (value < 3600) return `${Math.max(1, Math.round(value / 60))} min`;
  return duration(value);
}
