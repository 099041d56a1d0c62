/** Show the runs: the active ones with what they are doing, then all, newest first. */

import { ask, part, poll } from "./api.js";
import { callout, h, live, moment, isOnItsWay, pill } from "./dom.js";
import { RunHead } from "./run.js";

const PAGE = 100;
const SHOWN_LIVE = 3;

function row(run) {
  return h("li", { "data-key": run.run_id },
    h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": `link ${run.run_id}` }, run.dataset),
    pill(run.status),
    h("span", { class: "when" }, moment(run.created_at)),
    h("span", { class: "id" }, run.run_id),
    run.reason && h("span", { class: "reason" }, run.reason));
}

function nothing() {
  return h("div", { class: "card empty" },
    h("h2", {}, "No runs yet"),
    h("p", {}, "A run begins when a zip of labelled images arrives: a folder for each class, images inside."),
    h("p", {}, h("a", { class: "button", href: "#/datasets" }, "Drop a dataset")));
}

/** Rows by run, so that one changed status touches one row. */
class List {
  constructor() {
    this.element = h("ul", { class: "runs", "aria-label": "All runs, newest first" });
    this.rows = new Map();
  }

  /** Show these runs; those not in the list yet are older than all of it if they come from a further page, newer otherwise. */
  show(runs, { isOlder = false } = {}) {
    for (const run of runs) {
      const told = JSON.stringify(run);
      const held = this.rows.get(run.run_id);
      if (held?.told === told) continue;
      const element = row(run);
      const focused = held?.element.contains(document.activeElement);
      held?.element.replaceWith(element);
      if (focused) element.querySelector("a").focus();
      this.rows.set(run.run_id, { told, element });
    }
    const added = runs.map((run) => this.rows.get(run.run_id).element).filter((each) => each.parentNode !== this.element);
    if (isOlder) this.element.append(...added);
    else this.element.prepend(...added);
  }
}

export async function showRuns(main, { signal }) {
  const list = new List();
  const onTheirWay = h("div", { class: "live-runs" });
  const heads = new Map();
  const problem = live((message) => message && callout("warn", "Not up to date", h("p", {}, message)));
  const empty = live((isEmpty) => isEmpty && nothing());
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Show older runs");
  let older = null;

  async function showLive(runs) {
    const active = runs.filter((run) => isOnItsWay(run.status)).slice(0, SHOWN_LIVE);
    const wanted = new Set([...active.map((run) => run.run_id), ...heads.keys()]);
    const told = await Promise.all([...wanted].map(async (id) => {
      if (!heads.has(id)) {
        const head = new RunHead({ linked: true });
        heads.set(id, head);
        onTheirWay.append(head.element);
      }
      const head = heads.get(id);
      if (head.hasEnded) return "";
      return head.look(id, signal);
    }));
    return told.join();
  }

  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const page = await ask(`runs?limit=${PAGE}&after=${part(older)}`, { signal });
      list.show(page.runs, { isOlder: true });
      older = page.next;
      more.hidden = !older;
    } finally {
      more.disabled = false;
    }
  });

  const look = async () => {
    const page = await ask(`runs?limit=${PAGE}`, { signal });
    if (page.runs.length) list.show(page.runs);
    empty.show(!page.runs.length);
    if (older === null) more.hidden = !(older = page.next);
    problem.show(null);
    return JSON.stringify(page.runs) + (await showLive(page.runs));
  };

  const first = look();
  await first;
  main.append(h("h1", {}, "Runs"), problem, onTheirWay, empty, list.element, more);
  let started = false;
  poll(signal, () => (started ? look() : ((started = true), first)), (error) => problem.show(error.message));
}
