/** Show what is about to be sent: images and classes, counted and as thumbnails, before a byte leaves this machine. */

import { count, h, number, table } from "../dom.js";

const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic)$/i;
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;
const SPLITS = { train: "train", training: "train", valid: "valid", validation: "valid", val: "valid", dev: "valid", test: "test", testing: "test" };
const SHOWN_CLASSES = 12;
const PER_CLASS = 3;
const LARGEST_TAIL = 8_000_000; // bytes at a zip's end in which its directory is looked for
const TEXT = new TextDecoder();

/** Return the files worth sending: what an operating system leaves beside them is not. */
export const leaveOutHidden = (files) => files.filter(({ path }) => !HIDDEN.test(path));

/** Return {class: {split: [image, …]}} by the folders of the paths. */
export function sortByClass(images) {
  const found = new Map();
  for (const image of images) {
    const folders = image.path.split("/").slice(0, -1);
    const at = folders.findIndex((each) => SPLITS[each.toLowerCase()]);
    const split = at < 0 ? "" : SPLITS[folders[at].toLowerCase()];
    const name = (at < 0 ? folders.at(-1) : folders[at + 1]) ?? "";
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ ...image, split });
  }
  return new Map([...found].sort(([a], [b]) => a.localeCompare(b)));
}

/** List a zip's images from its directory: [{path, size, open()}]; null where the directory cannot be read here. */
export async function listZip(file) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - LARGEST_TAIL)).arrayBuffer());
  const start = Math.max(0, file.size - LARGEST_TAIL);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) return null;
  let at = tail.getUint32(end + 16, true) - start;
  const total = tail.getUint16(end + 10, true);
  if (at < 0 || total === 0xffff) return null;
  const entries = [];
  for (let index = 0; index < total && at + 46 <= tail.byteLength; index += 1) {
    if (tail.getUint32(at, true) !== 0x02014b50) return null;
    const [name, extra, comment] = [28, 30, 32].map((place) => tail.getUint16(at + place, true));
    entries.push({
      path: TEXT.decode(new Uint8Array(tail.buffer, at + 46, name)), method: tail.getUint16(at + 10, true),
      packed: tail.getUint32(at + 20, true), size: tail.getUint32(at + 24, true), offset: tail.getUint32(at + 42, true),
    });
    at += 46 + name + extra + comment;
  }
  return entries.filter(({ path }) => !path.endsWith("/")).map((entry) => ({ ...entry, open: () => unpack(file, entry) }));
}

async function unpack(file, { offset, method, packed }) {
  const head = new DataView(await file.slice(offset, offset + 30).arrayBuffer());
  const data = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const raw = file.slice(data, data + packed);
  return method === 0 ? raw : new Response(raw.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
}

/** Show a thumbnail, decoded small, so that a large photo costs little memory. */
function thumbnail(image) {
  const canvas = h("canvas", { width: 96, height: 96, class: "thumb", role: "img", "aria-label": image.path });
  const draw = (drawn) => { // its middle: the whole would be squeezed into a square
    const [across, down] = [Math.max(1, drawn.width / drawn.height) * 96, Math.max(1, drawn.height / drawn.width) * 96];
    canvas.getContext("2d").drawImage(drawn, (96 - across) / 2, (96 - down) / 2, across, down);
  };
  image.open().then((blob) => createImageBitmap(blob, { resizeHeight: 96, resizeQuality: "medium" })).then(draw).catch(() => canvas.classList.add("unread"));
  return canvas;
}

/** Return the images among what is to be sent. */
export const listImages = (entries) => leaveOutHidden(entries).filter(({ path }) => IMAGE.test(path));

/** Return what a person wants to see before sending. */
export function drawPreview(entries) {
  if (!entries) return h("p", { class: "hint" }, "What is in it cannot be shown here. It is checked after the upload.");
  const images = listImages(entries);
  const classes = sortByClass(images);
  if (!images.length) return h("p", { class: "problem" }, "There is no image in it: JPEG, PNG and the like, in a folder for each class.");
  const rows = [...classes].map(([name, own]) => [name || "(no folder)", number(own.length), ...["train", "valid", "test"].map((split) => number(own.filter((each) => each.split === split).length))]);
  const hasSplits = [...classes.values()].flat().some((each) => each.split);
  const few = [...classes].filter(([, own]) => own.length < 10).map(([name]) => name);
  return h("div", { class: "preview" },
    h("p", {}, h("b", {}, `${count(images.length, "image")} in ${count(classes.size, "class", "classes")}`)),
    classes.size < 2 && h("p", { class: "problem" }, "There is one class only. A classifier needs at least two folders of images."),
    few.length > 0 && classes.size > 1 && h("p", { class: "hint" }, `Fewer than 10 images: ${few.slice(0, 6).join(", ")}${few.length > 6 ? ` and ${few.length - 6} more` : ""}.`),
    h("ul", { class: "thumbs" }, [...classes].slice(0, SHOWN_CLASSES).map(([name, own]) =>
      h("li", {}, h("span", { class: "name", title: name }, h("span", {}, name || "(no folder)"), " ", h("small", {}, own.length)), h("span", { class: "thumb-row" }, own.slice(0, PER_CLASS).map(thumbnail))))),
    h("details", { "data-key": "classes" }, h("summary", {}, `All ${count(classes.size, "class", "classes")}`),
      table("Images by class", ["Class", "Images", ...(hasSplits ? ["train", "valid", "test"] : [])], rows.map((row) => (hasSplits ? row : row.slice(0, 2))))));
}
