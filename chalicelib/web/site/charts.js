/** Draw charts as SVG, each with its numbers in a table for people who cannot see it. */

import { h, percent, s, short, table } from "./dom.js";

const COLOURS = 8;
const MARGIN = { top: 12, right: 14, bottom: 36, left: 48 };

/** Return at most `most` round numbers that span a range. */
function ticks(low, high, most) {
  const span = high - low || 1;
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function bounds(values, room) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || Math.abs(high) || 1) * room;
  return [low - pad, high + pad];
}

function plot({ series, x, y, title, summary }, width) {
  const height = Math.min(320, Math.max(200, width * 0.42));
  const points = series.flatMap((each) => each.points);
  const xs = points.map((point) => point[0]);
  const [left, right] = [Math.min(...xs), Math.max(Math.min(...xs) + 1, ...xs)];
  const [low, high] = bounds(points.map((point) => point[1]), 0.06);
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const toX = (value) => MARGIN.left + ((value - left) / (right - left)) * inner.width;
  const toY = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height;
  const across = ticks(left, right, Math.max(2, Math.floor(inner.width / 60))).filter(Number.isInteger);
  const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}. ${summary}`, class: "plot" },
    ticks(low, high, 5).map((at) => [
      s("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(at), y2: toY(at) }),
      s("text", { class: "tick", x: MARGIN.left - 8, y: toY(at) + 4, "text-anchor": "end" }, short(at))]),
    across.map((at) => s("text", { class: "tick", x: toX(at), y: height - MARGIN.bottom + 18, "text-anchor": "middle" }, short(at))),
    s("text", { class: "tick", x: MARGIN.left + inner.width / 2, y: height - 3, "text-anchor": "middle" }, x),
    series.map((each) => [
      each.points.length > 1 && !each.loose &&
        s("polyline", { class: `line c${each.colour % COLOURS}${each.strong ? " strong" : ""}`, points: each.points.map(([a, b]) => `${toX(a).toFixed(1)},${toY(b).toFixed(1)}`).join(" ") }),
      each.points.map(([a, b]) => s("circle", { class: `dot c${each.colour % COLOURS}`, cx: toX(a).toFixed(1), cy: toY(b).toFixed(1), r: each.strong ? 4 : 2.5 },
        s("title", {}, `${each.name}: ${y} ${short(b)} at ${x} ${a}`)))]));
  return drawing;
}

/** A plot that is redrawn when its container changes width. `series`: {name, colour, points, strong, loose}. */
export function lines(data) {
  const place = h("div", { class: "plot-place" });
  const drawn = data.series.filter((each) => each.points.length);
  if (!drawn.length) return h("p", { class: "hint" }, "Nothing measured yet.");
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) place.replaceChildren(plot({ ...data, series: drawn }, (width = now)));
  }).observe(place);
  return h("figure", {}, place,
    drawn.length > 1 && h("ul", { class: "legend", "aria-hidden": "true" }, drawn.map((each) =>
      h("li", {}, h("span", { class: `swatch c${each.colour % COLOURS}` }), each.name))));
}

/** Return a sparkline: a line without axes. */
export function spark(values) {
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return null;
  const [low, high] = bounds(finite, 0.1);
  const at = (value, index) => `${((index / (finite.length - 1)) * 100).toFixed(1)},${(28 - ((value - low) / (high - low)) * 28).toFixed(1)}`;
  return s("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polyline", { class: "line c0 strong", points: finite.map(at).join(" ") }));
}

/** Return the parts of a whole as bars: [name, share, text]. */
export function bars(label, rows) {
  return h("ol", { class: "bars", "aria-label": label }, rows.map(([name, share, text], index) => {
    const bar = h("span", { class: "fill" });
    bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return h("li", { class: index ? "" : "best" },
      h("span", { class: "name" }, name),
      h("span", { class: "value" }, text ?? percent(share)),
      h("span", { class: "track", "aria-hidden": "true" }, bar));
  }));
}

const LARGEST_TABLE = 20;

/** Return the confusion matrix: a table of numbers if that is legible, otherwise a picture and the worst pairs. */
export function confusion(classes, counts) {
  const pairs = counts.flatMap((row, i) => row.map((count, j) => [i, j, count])).filter(([i, j, count]) => i !== j && count);
  pairs.sort((a, b) => b[2] - a[2]);
  const worst = pairs.length
    ? h("ol", { class: "pairs" }, pairs.slice(0, 8).map(([i, j, count]) =>
        h("li", {}, h("b", {}, classes[i]), " taken for ", h("b", {}, classes[j]), ` ${count} ${count === 1 ? "time" : "times"}`)))
    : h("p", {}, "No test image was assigned to another class.");
  const matrix = classes.length <= LARGEST_TABLE ? confusionTable(classes, counts) : confusionPicture(classes, counts);
  return [matrix, h("h3", {}, "Most confused"), worst];
}

function confusionTable(classes, counts) {
  const rows = counts.map((row, i) => {
    const total = row.reduce((sum, each) => sum + each, 0) || 1;
    return [classes[i], ...row.map((count, j) => {
      const level = count ? Math.max(1, Math.round((count / total) * 5)) : 0;
      return h("span", { class: `cell ${i === j ? "right" : "wrong"} l${level}` }, count || "·");
    })];
  });
  return table("Confusion matrix: a row for each true class, a column for each predicted one", ["true \\ predicted", ...classes], rows);
}

function confusionPicture(classes, counts) {
  const size = classes.length;
  const side = Math.max(2, Math.floor(560 / size));
  const canvas = h("canvas", { class: "matrix", width: size * side, height: size * side, role: "img",
    "aria-label": `Confusion matrix of ${size} classes; the most confused pairs are listed below` });
  const pen = canvas.getContext("2d");
  counts.forEach((row, i) => {
    const total = row.reduce((sum, each) => sum + each, 0) || 1;
    row.forEach((count, j) => {
      if (!count) return;
      pen.globalAlpha = 0.25 + 0.75 * (count / total);
      pen.fillStyle = i === j ? "#0d9488" : "#dc2626";
      pen.fillRect(j * side, i * side, side, side);
    });
  });
  return canvas;
}
