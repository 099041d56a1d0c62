/** Upload datasets: zips go straight to the bucket, and the page shows the progress of each. */

import { ask, part, poll } from "./api.js";
import { bytes, callout, findings, h, live, moment, pill, say } from "./dom.js";
import { dropZone } from "./models.js";
import { confirmBox } from "./run.js";

const APPEARS_WITHIN = 90_000; // milliseconds; an upload's event starts its run much sooner
const shelf = h("ul", { class: "uploads", "aria-label": "Uploads" }); // kept while other views are shown
const underWay = new Set();

addEventListener("beforeunload", (event) => underWay.size && event.preventDefault());

/** PUT a file to a URL; `told(share)` reports progress. XMLHttpRequest, since fetch reports no upload progress. */
function put(url, file, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.upload.addEventListener("progress", (event) => told(event.loaded / event.total));
    request.addEventListener("load", () => (request.status < 300 ? resolve() : reject(new Error(explain(request)))));
    request.addEventListener("error", () => reject(new Error("The bucket cannot be reached, or it refuses uploads from this page.")));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.open("PUT", url);
    request.send(file);
  });
}

function explain(request) {
  const message = /<Message>([^<]*)<\/Message>/.exec(request.responseText)?.[1];
  return message ? `The bucket refused it: ${message}` : `The bucket refused it with status ${request.status}.`;
}

class Upload {
  constructor(file) {
    this.file = file;
    this.name = file.name.replace(/\.zip$/i, "");
    this.stopping = new AbortController();
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
    this.state = h("p", { class: "hint", role: "status" }, "Asking for a place in the bucket …");
    this.cancel = h("button", { type: "button", class: "quiet", onclick: () => this.stopping.abort() }, "Cancel");
    this.result = live((told) => told && this.drawResult(told));
    this.element = h("li", { class: "card" },
      h("h2", {}, this.name, " ", h("small", {}, bytes(file.size))), this.bar, this.state, h("div", { class: "actions" }, this.cancel), this.result);
  }

  async go() {
    underWay.add(this);
    try {
      const before = new Set((await this.list()).map((run) => run.run_id));
      const place = await ask(`datasets/${part(this.name)}`, { method: "POST" });
      await put(place.url, this.file, (share) => this.tell(share), this.stopping.signal);
      underWay.delete(this);
      this.cancel.remove();
      this.bar.remove();
      this.state.textContent = "Uploaded. It is being checked …";
      await this.follow(before);
    } catch (error) {
      this.cancel.remove();
      this.bar.remove();
      this.state.textContent = error.name === "AbortError" ? "Cancelled." : "";
      if (error.name !== "AbortError") this.result.show({ error: error.message });
    } finally {
      underWay.delete(this);
    }
  }

  tell(share) {
    this.bar.value = share;
    this.state.textContent = `${Math.floor(share * 100)} % of ${bytes(this.file.size)} sent`;
  }

  async list() {
    const { runs } = await ask("runs?limit=200");
    return runs.filter((run) => run.dataset === this.name);
  }

  /** Look for the run that the upload started, until its dataset has been checked. */
  follow(before) {
    const began = Date.now();
    const { signal } = this.stopping;
    return poll(signal, async () => {
      const listed = (await this.list()).find((run) => !before.has(run.run_id));
      if (!listed) {
        if (Date.now() - began < APPEARS_WITHIN) return "waiting";
        this.state.textContent = "Its run has not begun yet. It will be among the runs.";
        return null;
      }
      const run = await ask(`runs/${part(listed.run_id)}`);
      if (run.status === "checking") return "checking";
      this.state.textContent = "";
      this.result.show({ run });
      say(run.status === "rejected" ? `${this.name} was rejected.` : `${this.name} is fine. Its run has begun.`);
      return null;
    }, (error) => { this.state.textContent = error.message; });
  }

  drawResult({ error, run }) {
    if (error) return callout("bad", "Not uploaded", h("p", {}, error));
    const link = h("p", {}, h("a", { class: "button", href: `#/runs/${part(run.run_id)}` }, run.status === "rejected" ? "See the run" : "Follow the run"));
    const { problems = [], warnings = [] } = run.dataset_report ?? {};
    if (run.status === "rejected") {
      return callout("bad", "Not accepted. Fix this, then upload it again", problems.length ? findings(problems) : h("p", {}, run.reason), link);
    }
    return callout("good", "Checked: its run has begun", warnings.length > 0 && findings(warnings), link);
  }
}

function take([file]) {
  const upload = new Upload(file);
  if (!/\.zip$/i.test(file.name)) {
    upload.bar.remove();
    upload.cancel.remove();
    upload.state.textContent = "";
    upload.result.show({ error: `${file.name} is not a .zip. Pack the images into one zip, with a folder for each class.` });
  } else {
    upload.go();
  }
  shelf.prepend(upload.element);
}

function drawKnown(runs) {
  const latest = new Map();
  for (const run of runs) if (!latest.has(run.dataset)) latest.set(run.dataset, run);
  if (!latest.size) return null;
  return [
    h("h2", {}, "Datasets so far"),
    h("ul", { class: "runs", "aria-label": "Datasets, each with its newest run" }, [...latest.values()].map((run) =>
      h("li", {}, h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": run.dataset }, run.dataset), pill(run.status), h("span", { class: "when" }, moment(run.created_at)),
        h("button", { type: "button", class: "quiet", "aria-label": `Delete the dataset ${run.dataset}`, onclick: () => remove(run.dataset) }, "Delete")))),
  ];
}

/** Delete a dataset and everything made from it. If something has to end first, say so; the user then asks again. */
async function remove(name) {
  if (!(await confirmBox(`Delete the dataset ${name}?`, "With it go every version, its recipe, its runs and their reports, and its model. Runs on their way are stopped.", "Delete it all"))) return;
  try {
    const { left } = await ask(`datasets/${part(name)}`, { method: "DELETE" });
    say(left.length ? `${name} is not gone yet: ${left.join(" ")} Delete it again in some minutes.` : `The dataset ${name} is deleted.`);
    shelf.prepend(h("li", { class: "card" }, callout(left.length ? "info" : "good", left.length ? `${name}: delete it again in some minutes` : `${name} is deleted`, left.map((each) => h("p", {}, each)))));
  } catch (error) {
    shelf.prepend(h("li", { class: "card" }, callout("bad", `${name} is not deleted`, h("p", {}, error.message))));
  }
}

export async function showDatasets(main, { signal }) {
  const known = live(drawKnown);
  const zone = dropZone({ id: "zip", label: "Drop a zip of images, or choose one", hint: "A folder for each class; train/, valid/ and test/ above them if you have them", accept: ".zip,application/zip", take });
  main.append(h("h1", {}, "Datasets"),
    h("p", { class: "lead" }, "The dataset and its model are named after the file. A zip of the same name is a new version: a new model is trained, and the present one answers until the new one is deployed."),
    zone, shelf, known);
  const see = async () => {
    const { runs } = await ask("runs?limit=200", { signal });
    known.show(runs);
    return JSON.stringify(runs);
  };
  poll(signal, see);
}
