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
  return Number.isFinite(value) ? `${(value * 100).toFixed(digits)} %` : dash;
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
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
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
  return h("div", { class: `callout ${kind}` }, h("p", { class: "title" }, title), ...children);
}

export function findings(list) {
  return h("ul", { class: "findings" }, list.map((each) => h("li", {}, each.message, " ", h("code", {}, each.code))));
}

/** Return a table that scrolls by itself if it is too wide; it can be reached by keyboard. */
export function table(caption, heads, rows, attributes = {}) {
  const cells = (row) => row.map((cell, index) => h(index ? "td" : "th", index ? {} : { scope: "row" }, cell));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, ...attributes },
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
