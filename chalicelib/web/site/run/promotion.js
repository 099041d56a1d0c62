/** Show why a model went live or was kept back, and let a person deploy one that was. */

import { ask, leaveOutRoutes, part } from "../api.js";
import { callout, confirmBox, h, paragraphs, say } from "../dom.js";
import { tableOfTests } from "./quality.js";

const TITLES = {
  undecided: "It is for you to decide whether this model goes live",
  declined: "This model was not good enough to deploy",
};

/** Show why; `more` says what the place does not know of the run. */
export function drawPromotion(run, more) {
  const { promotion, reason } = run.decision ?? {};
  if (run.status === "deployed") {
    if (run.approval) return callout("info", "A person approved this model", paragraphs(promotion?.because));
    return (promotion?.sentence || reason) && callout("info", "Why this model is deployed", paragraphs(reason), paragraphs(promotion?.sentence));
  }
  if (!TITLES[run.status]) return null;
  return callout("warn", TITLES[run.status], paragraphs(leaveOutRoutes(run.reason ?? "")), more, !run.approval && drawApproval(run));
}

function drawApproval(run) {
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "button", "data-key": "approve", onclick: () => approve(run, button, problem) }, "Approve and deploy");
  return [h("div", { class: "actions" }, button), problem];
}

async function approve(run, button, problem) {
  button.disabled = true;
  problem.textContent = "";
  const { comparison } = await ask(`runs/${part(run.run_id)}/jobs`).catch(() => ({})); // the box is of use without it
  if (!button.isConnected) return; // the page was left meanwhile
  button.disabled = false;
  const against = comparison?.live;
  const text = `${run.status === "declined" ? "It was declined. " : ""}${run.decision?.promotion?.compared_with
    ? "It takes the place of the live model, which answers until this one does."
    : "It will be the live model of this dataset."}`;
  if (!(await confirmBox(`Deploy this model of ${run.dataset}?`, text, "Approve and deploy", { kind: "primary", more: against?.tests?.length > 0 && tableOfTests(against) }))) return;
  button.disabled = true;
  say("It is deployed within minutes.");
  try {
    await ask(`runs/${part(run.run_id)}/approve`, { method: "POST" });
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    button.disabled = false;
  }
}
