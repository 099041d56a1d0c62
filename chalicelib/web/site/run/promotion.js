/** Show why a model went live or was kept back, and let a person deploy one that was. */

import { ask, part } from "../api.js";
import { callout, confirmBox, h, paragraphs, say } from "../dom.js";

const TITLES = {
  undecided: "It is for you to decide whether this model goes live",
  declined: "This model was not good enough to deploy",
};

/** Leave out how to approve by the API: here is a button. */
const leaveOutRoute = (reason) => (reason ?? "").replace(/ POST \/runs\/\S+\/approve [^.]*\./, "");

export function drawPromotion(run) {
  const { promotion, reason } = run.decision ?? {};
  if (run.status === "deployed") {
    if (run.approval) return callout("info", "A person approved this model", paragraphs(promotion?.because));
    return (promotion?.sentence || reason) && callout("info", "Why this model is deployed", paragraphs(reason), paragraphs(promotion?.sentence));
  }
  if (!TITLES[run.status]) return null;
  return callout("warn", TITLES[run.status], paragraphs(leaveOutRoute(run.reason)), !run.approval && drawApproval(run));
}

function drawApproval(run) {
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "button", "data-key": "approve", onclick: () => approve(run, button, problem) }, "Approve and deploy");
  return [h("div", { class: "actions" }, button), problem];
}

async function approve(run, button, problem) {
  if (!(await confirmBox(`Approve this model of ${run.dataset}?`, `${leaveOutRoute(run.reason)} If a model is live, this one takes its place.`, "Approve and deploy"))) return;
  button.disabled = true;
  problem.textContent = "";
  say("It is deployed within minutes.");
  try {
    await ask(`runs/${part(run.run_id)}/approve`, { method: "POST" });
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    button.disabled = false;
  }
}
