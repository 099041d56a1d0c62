/** One dataset on its way: what is in it, how it is to be learnt, its progress, and what its check says. */

import { ask, part, poll } from "../api.js";
import { bytes, callout, duration, findings, h, live, paragraphs, say, unusual } from "../dom.js";
import { drawPreview, leaveOutHidden, listImages, listZip } from "./preview.js";
import { readSchema, RecipeForm } from "./recipe.js";
import { arrived, forget, markOf, recall } from "./resuming.js";
import { sendDataset } from "./sending.js";
import { Zip } from "./packing.js";

const FEW = 500; // photographs that are seldom enough to begin from scratch
const APPEARS_WITHIN = 90_000; // milliseconds; an upload's event starts its run much sooner
export const shelf = h("ul", { class: "uploads", "aria-label": "Uploads" }); // kept while other views are shown
const underWay = new Set();

addEventListener("beforeunload", (event) => underWay.size && event.preventDefault());

/** Return what was dropped as datasets: each zip is one, and all other files together are one, named after their folder. */
export function sortOut(files) {
  const zips = files.filter(({ path }) => /^[^/]+\.zip$/i.test(path));
  const others = leaveOutHidden(files.filter((each) => !zips.includes(each)));
  const made = zips.map(({ file }) => ({ name: file.name.replace(/\.zip$/i, ""), source: file, list: () => listZip(file) }));
  const tops = new Map();
  for (const each of others.filter(({ path }) => path.includes("/"))) {
    const top = each.path.split("/")[0];
    tops.set(top, [...(tops.get(top) ?? []), each]);
  }
  const loose = others.filter(({ path }) => !path.includes("/"));
  const folders = [...tops];
  if (folders.length > 1 && folders.every(([, own]) => own.every(({ path }) => path.split("/").length === 2))) { // folders of classes
    made.push(pack("images", folders.flatMap(([, own]) => own)));
  } else made.push(...folders.map(([top, own]) => pack(top, own)));
  return { datasets: made, loose };
}

function pack(name, given) {
  const files = given.toSorted((a, b) => (a.path < b.path ? -1 : 1)); // the same folder makes the same zip each time
  return { name, source: new Zip(files), list: async () => files.map(({ file, path }) => ({ path, size: file.size, open: async () => file })) };
}

export class Upload {
  constructor({ name, source, list }, { known, isBilled }) {
    Object.assign(this, { source, list, known, isBilled }); // `known`: the newest run of each dataset that is there
    this.stopping = new AbortController();
    this.looked = new Map(); // what the app knows of each network's weights
    this.field = h("input", { type: "text", value: name, "aria-label": "Name of the dataset and its model", maxlength: "120", required: true });
    this.bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": `Upload of ${name}` });
    this.state = h("p", { class: "hint", role: "status" });
    this.preview = h("div", {}, h("p", { class: "hint" }, "Looking at the images …"));
    this.form = h("div", { onchange: () => this.tellWeights() });
    this.weights = live((told) => told && this.drawWeights(told));
    this.start = h("button", { type: "button", onclick: () => this.go() }, "Upload and train");
    this.cancel = h("button", { type: "button", class: "quiet", onclick: () => this.end() }, "Cancel");
    this.result = live((told) => told && this.drawResult(told));
    this.title = h("h2", {}, name, " ", h("small", {}, bytes(source.size)));
    this.naming = h("p", { class: "row" }, h("label", {}, "Name ", this.field));
    this.element = h("li", { class: "card upload" }, this.title, this.naming, this.preview, this.form, this.weights, this.bar, this.state,
      h("div", { class: "actions" }, this.start, this.cancel), this.result);
    this.prepare();
  }

  get name() {
    return this.field.value.trim();
  }

  async prepare() {
    const listed = this.list().catch(() => null);
    listed.then((entries) => this.preview.replaceChildren(drawPreview(entries)));
    try {
      const { signal } = this.stopping;
      this.recipe = new RecipeForm(await readSchema(signal), { isBilled: this.isBilled });
      if (this.known.has(this.name)) this.recipe.write((await ask(`runs/${part(this.known.get(this.name))}`, { signal })).recipe, { isOwn: true });
      this.form.replaceChildren(this.recipe.element);
      this.images = listImages((await listed) ?? []).length;
      this.recipe.know(this.images);
      await this.tellWeights();
      const place = await recall(markOf(this.name, this.source), signal);
      if (place) this.state.textContent = `${bytes(arrived(place))} of ${bytes(place.size)} have been sent before. It goes on from there.`;
    } catch (error) {
      if (!this.stopping.signal.aborted) this.form.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  }

  /** Say before anything is sent that the run may begin from scratch, where there are too few images for that. */
  async tellWeights() {
    const { architecture = "", pretrained } = this.recipe.read();
    if (pretrained === "none" || !this.images || this.images >= FEW) return this.weights.show(null);
    if (!this.looked.has(architecture)) this.looked.set(architecture, await ask(`weights?architecture=${part(architecture)}`, { signal: this.stopping.signal }).catch(() => null)); // a hint only
    const told = this.looked.get(architecture);
    return this.weights.show(told?.message ? told : null);
  }

  drawWeights({ state, message }) {
    if (state === "unknown") return callout("info", "Pretrained weights are not in the bucket", paragraphs(message));
    return callout("warn", "It will probably be trained from scratch", paragraphs(message), h("p", {}, "Until they are there, Best has the best chance: it trains longest."));
  }

  end() {
    this.stopping.abort();
    forget(markOf(this.name, this.source));
    if (!underWay.has(this)) this.element.remove();
  }

  async go() {
    if (!this.name) return this.field.focus();
    underWay.add(this);
    this.start.hidden = this.naming.hidden = this.form.hidden = this.weights.hidden = true;
    this.title.firstChild.textContent = this.name;
    this.bar.hidden = false;
    this.began = performance.now();
    this.before = undefined;
    this.result.show(null);
    this.state.textContent = "Asking for a place in the bucket …";
    try {
      const before = new Set((await this.listRuns()).map((run) => run.run_id));
      await this.sendRecipe();
      await sendDataset(this.name, this.source, (sent, isCut) => this.tell(sent, isCut), this.stopping.signal);
      underWay.delete(this);
      this.cancel.hidden = this.bar.hidden = true;
      this.state.textContent = "Uploaded. It is being checked …";
      await this.follow(before);
    } catch (error) {
      this.bar.hidden = true;
      this.state.textContent = error.name === "AbortError" ? "Cancelled." : "";
      if (error.name === "AbortError") this.cancel.hidden = true;
      else this.fail(error);
    } finally {
      underWay.delete(this);
    }
    return undefined;
  }

  /** A recipe is written if it says anything, or if an earlier one has to be taken back. */
  async sendRecipe() {
    const document = this.recipe?.read() ?? {};
    if (!Object.keys(document).length && !this.known.has(this.name)) return;
    await ask(`datasets/${part(this.name)}/recipe`, { method: "POST", type: "application/json", body: JSON.stringify(document), signal: this.stopping.signal });
  }

  fail(error) {
    this.result.show({ error: error.message });
    this.start.textContent = "Try again";
    this.start.hidden = this.naming.hidden = this.form.hidden = this.weights.hidden = this.cancel.hidden = false;
  }

  tell(sent, isCut) {
    this.bar.value = sent / this.source.size;
    this.before ??= sent; // an upload that goes on has sent it earlier, which says nothing about its pace
    const seconds = (performance.now() - this.began) / 1000;
    const pace = (sent - this.before) / seconds;
    const left = pace > 0 && seconds > 3 ? `, about ${duration(Math.max(1, Math.round((this.source.size - sent) / pace)))} left` : "";
    this.state.textContent = sent >= this.source.size ? "Everything is sent. The bucket is putting it together …" : isCut
      ? `The connection is lost. It continues from ${Math.floor((sent / this.source.size) * 100)}% as soon as it is back.`
      : `${Math.floor((sent / this.source.size) * 100)}% of ${bytes(this.source.size)} sent${left}`;
  }

  async listRuns() {
    const { runs } = await ask("runs?limit=50"); // the run that is looked for is a new one
    return runs.filter((run) => run.dataset === this.name);
  }

  /** Look for the run that the upload started, until its dataset has been checked. */
  follow(before) {
    const began = Date.now();
    const { signal } = this.stopping;
    return poll(signal, async () => {
      const listed = (await this.listRuns()).find((run) => !before.has(run.run_id));
      if (!listed) {
        if (Date.now() - began < APPEARS_WITHIN) return "waiting";
        this.state.textContent = "Its run has not begun yet. It will appear under Runs.";
        return null;
      }
      const run = await ask(`runs/${part(listed.run_id)}`);
      if (run.status === "checking") return "checking";
      this.state.textContent = "";
      this.result.show({ run });
      say(run.status === "rejected" ? `${this.name} was not accepted.` : `${this.name} is fine. Its run has begun.`);
      return null;
    }, (error) => { this.state.textContent = error.message; });
  }

  drawResult({ error, run }) {
    if (error) return callout("bad", "Not uploaded", paragraphs(error));
    const link = h("p", {}, h("a", { class: "button", href: `#/runs/${part(run.run_id)}` }, run.status === "rejected" ? "See the run" : "Follow the run"));
    const { problems = [], warnings = [] } = run.dataset_report ?? {};
    if (run.status === "rejected") {
      return callout("bad", "Not accepted. Fix this, then upload it again", problems.length ? findings(problems) : paragraphs(run.reason), link);
    }
    return callout("good", "Checked: its run has begun", unusual(warnings).length > 0 && findings(unusual(warnings)), link);
  }
}
