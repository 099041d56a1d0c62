/** An area that takes files by dropping or choosing, folders too where `folders` is set. `take(files)` gets them: [{file, path}]. */

import { h } from "../dom.js";

/** Return every file of what was dropped, with its path below it. */
export async function readDropped(carried) {
  const entries = [...(carried.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...carried.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await walk(each, found);
  }
}

export function dropZone({ id, label, hint, accept, folders = false, take }) {
  const pick = (field) => {
    take([...field.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    field.value = "";
  };
  const field = h("input", { id, type: "file", accept, multiple: true, class: "unseen", onchange: () => pick(field) });
  const zone = h("label", { class: "drop", for: id }, h("b", {}, label), h("span", { class: "hint" }, hint));
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("over", on); };
  zone.take = async (carried) => {
    const files = await readDropped(carried);
    if (files.length) take(files);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    zone.take(event.dataTransfer);
  });
  if (!folders) return h("div", { class: "drop-place" }, field, zone);
  const folder = h("input", { id: `${id}-folder`, type: "file", webkitdirectory: true, class: "unseen", onchange: () => pick(folder) });
  return h("div", { class: "drop-place" }, field, zone, folder, h("label", { class: "button quiet", for: `${id}-folder` }, "Choose a folder"));
}
