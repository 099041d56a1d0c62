/** Show the runs: the active ones with what they are doing, then all, newest first, with the numbers of each. */

import { ask, firstLook, part } from "../api.js";
import { count, duration, h, isOnItsWay, live, moment, money, percent, pill, staleness, ticked } from "../dom.js";

const FIRST = 50; // a page of the list costs by its length, and the newest runs are what is looked for
const PAGE = 200;
const SHOWN_LIVE = 3;
const ENOUGH = 50; // matches of a filter, after which older runs are searched only on demand

function row(run, chosen, isBilled) {
  const sizes = [run.images && count(run.images, "image"), run.classes && count(run.classes, "class", "classes")].filter(Boolean).join(", ");
  const price = Number.isFinite(run.spent_usd) ? money(run.spent_usd, isBilled, { short: true }) : "";
  return h("li", { "data-key": run.run_id },
    h("input", { type: "checkbox", "aria-label": `Compare ${run.dataset}, ${run.run_id}`, checked: chosen.has(run.run_id), onchange: (event) => chosen.toggle(run.run_id, event.target.checked) }),
    h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": `link ${run.run_id}` }, run.dataset),
    pill(run.status),
    h("b", { class: "number" }, Number.isFinite(run.accuracy) ? percent(run.accuracy) : ""),
    h("span", { class: "about sizes" }, sizes),
    h("span", { class: "about" }, [Number.isFinite(run.seconds) && duration(run.seconds), price].filter(Boolean).join(" · ")),
    h("span", { class: "when" }, moment(run.created_at)),
    run.reason && h("span", { class: "reason", title: run.reason }, ticked(run.reason)));
}

function nothing() {
  return h("div", { class: "card empty" },
    h("h2", {}, "No runs yet"),
    h("p", {}, "A run begins when labelled images arrive: a folder for each class, or a zip of such folders."),
    h("p", {}, h("a", { class: "button", href: "#/datasets" }, "Upload a dataset")));
}

/** The runs that the reader has ticked, two at most: they can be compared. */
class Chosen {
  constructor() {
    this.ids = [];
    this.link = h("a", { class: "button", hidden: true }, "Compare the two");
    this.hint = h("span", { class: "hint" }, "Tick two runs to compare them.");
  }

  has(id) {
    return this.ids.includes(id);
  }

  toggle(id, on) {
    this.ids = [...this.ids.filter((each) => each !== id), ...(on ? [id] : [])];
    while (this.ids.length > 2) document.querySelector(`.runs li[data-key="${CSS.escape(this.ids.shift())}"] input`).checked = false;
    this.link.hidden = this.ids.length !== 2;
    this.hint.textContent = ["Tick two runs to compare them.", "Tick one more to compare them.", ""][this.ids.length];
    if (!this.link.hidden) this.link.href = `#/compare/${this.ids.map(part).join("/")}`;
  }
}

/** Rows by run, so that one changed status touches one row. */
class List {
  constructor() {
    this.chosen = new Chosen();
    this.element = h("ul", { class: "runs", "aria-label": "All runs, newest first" });
    this.field = h("input", { type: "search", id: "filter", placeholder: "dataset, status or run", oninput: () => { this.filter(); this.search(); } });
    this.none = h("p", { class: "hint", role: "status" });
    this.search = () => {}; // looks through older runs; the view sets it
    this.bar = h("div", { class: "row" }, h("label", { for: "filter" }, "Filter"), this.field, this.chosen.link, this.chosen.hint);
    this.rows = new Map();
  }

  /** Show these runs; those not in the list yet are older than all of it if they come from a further page, newer otherwise. */
  show(runs, { isOlder = false, billed } = {}) {
    for (const run of runs) {
      const told = JSON.stringify(run);
      const held = this.rows.get(run.run_id);
      if (held?.told === told) continue;
      const element = row(run, this.chosen, billed);
      const focused = held?.element.contains(document.activeElement);
      held?.element.replaceWith(element);
      if (focused) element.querySelector("a").focus();
      this.rows.set(run.run_id, { told, element, text: `${run.dataset} ${run.status} ${run.run_id} ${run.reason ?? ""}`.toLowerCase() });
    }
    const added = runs.map((run) => this.rows.get(run.run_id).element).filter((each) => each.parentNode !== this.element);
    if (isOlder) this.element.append(...added);
    else this.element.prepend(...added);
    this.filter();
  }

  filter() {
    const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.found = 0;
    for (const { element, text } of this.rows.values()) {
      element.hidden = !words.every((word) => text.includes(word));
      this.found += !element.hidden;
    }
    this.tell(false);
  }

  get isFiltered() {
    return Boolean(this.field.value.trim());
  }

  tell(isSearching) {
    const words = isSearching ? `Searched the newest ${count(this.rows.size, "run")}; the older ones are being searched …`
      : `${this.found ? count(this.found, "run") : "No run"} of ${this.rows.size.toLocaleString("en")} ${this.found === 1 || !this.found ? "matches" : "match"}.`;
    this.none.textContent = this.isFiltered && this.rows.size ? words : "";
  }
}

export async function showRuns(main, { signal }) {
  const list = new List();
  const onTheirWay = h("div", { class: "live-runs" });
  const heads = new Map();
  const problem = staleness();
  const empty = live((isEmpty) => isEmpty && nothing());
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Show older runs");
  let older = null;

  async function showLive(runs) {
    const active = runs.filter((run) => isOnItsWay(run.status)).slice(0, SHOWN_LIVE);
    const wanted = new Set([...active.map((run) => run.run_id), ...heads.keys()]);
    if (!wanted.size) return "";
    const { RunHead } = await import("../run/head.js"); // with its charts it is as large as all else, and needed for active runs only
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

  async function showOlder() {
    const page = await ask(`runs?limit=${PAGE}&after=${part(older)}`, { signal });
    list.show(page.runs, { isOlder: true, billed: page.billed });
    older = page.next;
    more.hidden = !older;
  }

  more.addEventListener("click", async () => {
    more.disabled = true;
    const wanted = list.found + 1;
    try {
      do await showOlder(); while (older && list.isFiltered && list.found < wanted);
    } catch (error) {
      if (!signal.aborted) problem.show(error.message);
    } finally {
      more.disabled = false;
    }
  });

  /** A filter means all runs: while it has few matches, older runs are read too. */
  list.search = async () => {
    if (more.disabled) return; // it goes on with what is typed meanwhile
    more.disabled = true;
    try {
      while (older && list.isFiltered && list.found < ENOUGH && !signal.aborted) {
        list.tell(true);
        await showOlder();
      }
      list.tell(false);
    } catch (error) {
      if (!signal.aborted) problem.show(error.message);
    } finally {
      more.disabled = false;
    }
  };

  const look = async () => {
    const page = await ask(`runs?limit=${FIRST}`, { signal });
    if (page.runs.length) list.show(page.runs, { billed: page.billed });
    empty.show(!page.runs.length);
    list.bar.hidden = page.runs.length < 2;
    if (older === null) more.hidden = !(older = page.next);
    problem.show(null);
    return JSON.stringify(page.runs) + (await showLive(page.runs));
  };

  const go = await firstLook(look, signal, (error) => problem.show(error.message));
  main.append(h("h1", {}, "Runs"), problem, onTheirWay, empty, list.bar, list.element, list.none, more);
  go();
}
