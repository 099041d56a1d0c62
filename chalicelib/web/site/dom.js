/** Build elements, and format numbers and times. All text goes into text nodes, so none ever becomes markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Return an HTML element: h("a", {href: "#", onclick: f}, "text", child, …). */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** Return an SVG element, in the same way. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Announce a text to screen readers. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/**
 * A part of the page that is redrawn only when its data has changed, so that the reader's position, a selection and an
 * open detail survive. `draw(data)` returns elements; the returned element has `.show(data)`.
 */
export function live(draw, tag = "div", attributes = {}) {
  const place = h(tag, attributes);
  let shown;
  place.show = (data) => {
    const told = JSON.stringify(data ?? null);
    if (told === shown) return;
    shown = told;
    const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.key));
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    place.replaceChildren(...[draw(data)].flat(Infinity).filter(Boolean));
    for (const each of place.querySelectorAll("details")) each.open ||= open.has(each.dataset.key);
    if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  };
  return place;
}

const dash = "–";

export function percent(value, digits = 1) {
  return Number.isFinite(value) ? `${(value * 100).toFixed(digits)}%` : dash;
}

/** Return a count with its noun: "1 image", "12 images". */
export function count(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

export const IS_LOCAL = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

/** Return dollars as a person reads them. */
export const dollars = (value) => (value > 0 && value < 0.01 ? "under $0.01" : `$${value.toFixed(2)}`);

/** Return what a run costs; where nobody is charged, the price is AWS's. */
export function money(value, isBilled = true, { short: isShort = false } = {}) {
  if (!Number.isFinite(value)) return dash;
  if (isBilled) return dollars(value);
  if (isShort) return `free (${dollars(value).replace("under ", "<")} on AWS)`;
  return `free here; on AWS ${value < 0.01 ? "" : "about "}${dollars(value)}`;
}

export function number(value) {
  return Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : dash;
}

/** Return four digits of a number or numeric text; other texts unchanged. */
export function short(value) {
  if (value === null || value === undefined || value === "") return dash;
  const plain = String(value).replace(/^"(.*)"$/, "$1");
  const parsed = Number(plain);
  return Number.isFinite(parsed) ? String(Number(parsed.toPrecision(4))) : plain;
}

/** Return seconds as people say them: 520 ms, 8.3 s, 4 min 05 s, 2 h 10 min. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return dash;
  if (seconds === 0) return "under 1 s";
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 && !Number.isInteger(seconds) ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
}

export function bytes(count) {
  if (!Number.isFinite(count)) return dash;
  if (count === 1) return "1 byte";
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 3);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${["bytes", "kB", "MB", "GB"][power]}`;
}

/** Return a time in the reader's time zone; the element keeps the exact one. */
export function moment(iso) {
  if (!iso) return dash;
  const then = new Date(iso);
  const ago = (Date.now() - then) / 1000;
  const names = [[60, "just now"], [3600, `${Math.floor(ago / 60)} min ago`], [86400, `${Math.floor(ago / 3600)} h ago`]];
  const near = names.find(([limit]) => ago < limit)?.[1];
  const far = then.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  return h("time", { datetime: iso, title: then.toLocaleString() }, near ?? far);
}

export const ON_ITS_WAY = ["checking", "tuning", "training", "deploying"];
/** Return whether a run has not ended: one that waits for the budget or for a quota continues by itself. */
export const isOnItsWay = (status) => status === "waiting" || ON_ITS_WAY.includes(status);

export function pill(status) {
  return h("span", { class: `pill ${status}` }, status);
}

/** Return a message with its own heading: kind is good, bad, warn or info. */
export function callout(kind, title, ...children) {
  return h("div", { class: `callout ${kind}` }, h("p", { class: "title", role: "heading", "aria-level": "2" }, title), ...children);
}

/** Return a text whose parts between backticks are code. */
export const ticked = (text) => String(text ?? "").split("`").map((each, index) => (index % 2 ? h("code", {}, each) : each));

/** Return a message as paragraphs and a list: its lines that begin with a dash are the list's. */
export function paragraphs(text) {
  const lines = String(text ?? "").replace(/^(- )?\$\.(?=\w)/gm, "$1").split("\n").filter((line) => line.trim()); // a recipe's member needs no root
  const items = lines.filter((line) => line.startsWith("- ")).map((line) => h("li", {}, ticked(line.slice(2))));
  return [lines.filter((line) => !line.startsWith("- ")).map((line) => h("p", {}, ticked(line))), items.length > 0 && h("ul", { class: "findings" }, items)];
}

/** Return an element that says that a view could not be brought up to date; `.show(message)`, null for all is well. */
export function staleness() {
  return live((message) => message && callout("warn", "Not up to date", h("p", {}, message)));
}

/** Leave out what is usual: who has no folders of validation and test images is told so beside the counts. */
export const unusual = (warnings) => warnings.filter((each) => each.code !== "split_cut_from_train");

export function findings(list) {
  return h("ul", { class: "findings" }, list.map((each) => h("li", {}, each.message, " ", h("code", {}, each.code))));
}

/** Return a table that scrolls by itself if it is too wide; it can be reached by keyboard. */
export function table(caption, heads, rows, attributes = {}) {
  const cells = (row) => row.map((cell, index) => h(index ? "td" : "th", index ? {} : { scope: "row" }, cell));
  return h("div", { tabindex: "0", role: "region", "aria-label": caption, ...attributes, class: `scroll ${attributes.class ?? ""}` },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", row.attributes ?? {}, cells(row.cells ?? row))))));
}

export function section(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

export function tiles(pairs) {
  return h("dl", { class: "tiles" }, pairs.filter(Boolean).map(([name, value, note]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, note && h("small", {}, note)))));
}

/** Return a button that copies a text, and says so. */
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet small", onclick: async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      button.textContent = "Copied";
      say("Copied.");
    } catch {
      button.textContent = "Select it and press Ctrl+C";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  } }, label);
  return button;
}

/** Ask before something of weight; Escape and the first button mean no. Resolves to true or false. `more` elements explain. */
export function confirmBox(title, text, yes, { kind = "danger", more } = {}) {
  return new Promise((resolve) => {
    const box = h("dialog", { "aria-labelledby": "box-title", onclose: () => { box.remove(); resolve(box.returnValue === "yes"); } },
      h("h2", { id: "box-title" }, title), h("p", {}, text), more,
      h("div", { class: "actions" },
        h("button", { type: "button", class: "quiet", onclick: () => box.close("no") }, "Cancel"),
        h("button", { type: "button", class: kind, onclick: () => box.close("yes") }, yes)));
    document.body.append(box);
    box.showModal();
  });
}

/** Return a JPEG or PNG data URL's image as an element, by way of a blob: the page loads no `data:` addresses. */
export function imageOf(dataUrl, attributes = {}) {
  const image = h("img", { loading: "lazy", alt: "", ...attributes });
  const blob = blobOf(dataUrl);
  if (blob) image.src = URL.createObjectURL(blob);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  return image;
}

/** Return the bytes of a data URL. */
export function blobOf(dataUrl) {
  const [, kind, data] = /^data:([\w/+.-]+);base64,(.*)$/.exec(dataUrl ?? "") ?? [];
  return kind ? new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type: kind }) : null;
}
