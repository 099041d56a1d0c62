/** Upload datasets, and list those that are there. */

import { ask, part, poll } from "../api.js";
import { bytes, callout, confirmBox, count, h, live, moment, percent, pill, say } from "../dom.js";
import { dropZone } from "../models/drop.js";
import { forget, listInterrupted } from "./resuming.js";
import { shelf, sortOut, Upload } from "./upload.js";

const AGAIN = 30_000; // milliseconds between two looks at a deletion that is not finished
const known = new Map(); // the newest run of each dataset
let isBilled; // whether jobs cost anything here
let lookAgain = async () => {};

function complain(title, text) {
  shelf.prepend(h("li", { class: "card" }, callout("bad", title, h("p", {}, text))));
}

function take(files) {
  const { datasets, loose } = sortOut(files);
  if (loose.length) {
    const names = loose.slice(0, 3).map(({ path }) => path).join(", ");
    complain(loose.length === 1 ? `${loose[0].path} is not a .zip` : `${count(loose.length, "file")} without a folder`, `${names}: images belong in a folder for each class. Drop the folder that holds those folders, or a zip of it.`);
  }
  for (const each of datasets) shelf.prepend(new Upload(each, { known, isBilled }).element);
  if (datasets.length) say(`${count(datasets.length, "dataset")} ready to upload.`);
}

/** Show the uploads that were cut off by a reload or a closed tab; the reader has to choose the file again. */
function drawInterrupted(found, again) {
  return found.map(({ mark, name, size, sent }) => callout("warn", `The upload of ${name} was interrupted`,
    h("p", {}, `${bytes(sent)} of ${bytes(size)} have arrived. Choose the same zip or folder again within a day, under the same name: it goes on from there.`),
    h("div", { class: "actions" }, h("button", { type: "button", class: "quiet small", onclick: () => { forget(mark); again(); } }, "Forget it"))));
}

function drawKnown(runs) {
  const latest = new Map();
  for (const run of runs) if (!latest.has(run.dataset)) latest.set(run.dataset, run);
  for (const [name, run] of latest) known.set(name, run.run_id);
  if (!latest.size) return null;
  return [
    h("h2", {}, "Datasets so far"),
    h("ul", { class: "runs datasets", "aria-label": "Datasets, each with its newest run" }, [...latest.values()].map((run) =>
      h("li", {}, h("a", { href: `#/runs/${part(run.run_id)}`, "data-key": run.dataset }, run.dataset), pill(run.status),
        h("span", { class: "about" }, [run.images && count(run.images, "image"), run.classes && count(run.classes, "class", "classes"), Number.isFinite(run.accuracy) && percent(run.accuracy)].filter(Boolean).join(" · ")),
        h("span", { class: "when" }, moment(run.created_at)),
        h("button", { type: "button", class: "quiet", "aria-label": `Delete the dataset ${run.dataset}`, onclick: () => remove(run.dataset) }, "Delete")))),
  ];
}

/** Delete a dataset and everything made from it. It says so at once, and goes on until all is gone. */
async function remove(name) {
  if (!(await confirmBox(`Delete the dataset ${name}?`, "With it go every version, its recipe, its runs and their reports, and its model. Active runs are stopped.", "Delete it all"))) return;
  const place = live((told) => callout(told.kind, told.title, told.left.map((each) => h("p", {}, each))), "li", { class: "card" });
  shelf.prepend(place);
  place.show({ kind: "info", title: `${name} is being deleted`, left: [] });
  say(`${name} is being deleted.`);
  for (;;) {
    try {
      const { left } = await ask(`datasets/${part(name)}`, { method: "DELETE" });
      if (!left.length) break;
      place.show({ kind: "info", title: `${name} is being deleted`, left: [...left, "The page goes on by itself while it is open."] });
    } catch (error) {
      if (error.status === 404) break;
      return place.show({ kind: "bad", title: `${name} is not deleted`, left: [error.message] });
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
  place.show({ kind: "good", title: `${name} is deleted`, left: [] });
  known.delete(name);
  lookAgain().catch(() => {}); // or else the next look shows that it is gone
  return say(`The dataset ${name} is deleted.`);
}

export async function showDatasets(main, { signal }) {
  const list = live(drawKnown);
  const interrupted = live((found) => drawInterrupted(found, () => look()));
  const zone = dropZone({ id: "zip", label: "Drop a folder or a zip of images, or choose a zip", hint: "A folder for each class; train, valid and test above them if you have them", accept: ".zip,application/zip", folders: true, take });
  main.append(h("h1", {}, "Datasets"),
    h("p", { class: "lead" }, "Nothing is sent before you say so. A dataset and its model have one name; uploading under a name that exists makes a new version, and the present model answers until the new one is deployed."),
    zone, interrupted, shelf, list);
  const look = async () => interrupted.show(await listInterrupted());
  const see = async () => {
    const { runs, billed } = await ask("runs?limit=200", { signal });
    isBilled = billed;
    list.show(runs);
    look();
    return JSON.stringify(runs);
  };
  lookAgain = see;
  poll(signal, see);
}
