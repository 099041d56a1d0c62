/** Draw charts as SVG, each with its numbers in a table for people who cannot see it. */

import { h, percent, s, short, table } from "./dom.js";

const COLOURS = 8;
const MARGIN = { top: 18, right: 14, bottom: 36, left: 48 };

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

function plot({ series, x, y, title, summary, range, level, format = short }, width) {
  const height = Math.min(320, Math.max(200, width * 0.42));
  const points = series.flatMap((each) => each.points);
  const xs = points.map((point) => point[0]);
  const [left, right] = [Math.min(...xs), Math.max(Math.min(...xs) + 1, ...xs)];
  const [low, high] = bounds(range ?? points.map((point) => point[1]), 0.06);
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const toX = (value) => MARGIN.left + ((value - left) / (right - left)) * inner.width;
  const toY = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height;
  const across = ticks(left, right, Math.max(2, Math.floor(inner.width / 60))).filter(Number.isInteger);
  const marks = ticks(low, high, 5);
  const digits = marks.length > 1 && marks[1] - marks[0] < 0.01 ? 1 : 0;
  const label = (at) => (format === short ? short(at) : format(at, digits));
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}. ${summary}`, class: "plot" },
    marks.map((at) => [
      s("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(at), y2: toY(at) }),
      s("text", { class: "tick", x: MARGIN.left - 8, y: toY(at) + 4, "text-anchor": "end" }, label(at))]),
    across.map((at) => s("text", { class: "tick", x: toX(at), y: height - MARGIN.bottom + 18, "text-anchor": "middle" }, short(at))),
    s("text", { class: "tick", x: MARGIN.left + inner.width / 2, y: height - 3, "text-anchor": "middle" }, x),
    level && [
      s("line", { class: "level", x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(level.value), y2: toY(level.value) }),
      s("text", { class: "tick", x: width - MARGIN.right, y: toY(level.value) - 5, "text-anchor": "end" }, level.text)],
    series.map((each) => [
      each.points.length > 1 && !each.loose &&
        s("polyline", { class: `line c${each.colour % COLOURS}${each.strong ? " strong" : ""}`, points: each.points.map(([a, b]) => `${toX(a).toFixed(1)},${toY(b).toFixed(1)}`).join(" ") }),
      !each.bare && each.points.map(([a, b]) => s("circle", { class: `dot c${each.colour % COLOURS}`, cx: toX(a).toFixed(1), cy: toY(b).toFixed(1), r: each.strong ? 4 : 2.5 },
        s("title", {}, `${each.name}: ${y} ${format(b)} at ${x} ${a}`)))]));
}

/**
 * A plot that is redrawn when its container changes width. `series`: {name, colour, points, strong, loose, bare}; a
 * `level` {value, text} is a line across; `range` are the values that the y axis spans.
 */
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
    drawn.length > 1 && data.legend !== false && h("ul", { class: "legend", "aria-hidden": "true" }, drawn.map((each) =>
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

const LARGEST_TABLE = 16;
const SHOWN_CONFUSED = 12;

const sum = (row) => row.reduce((total, each) => total + each, 0);

/**
 * List the pairs of classes that are confused: [label, predicted, times, images of the label].
 * Those of a class with no right answer come first, then by the share of the class's images, then by their number.
 */
export function confusedPairs(classes, counts) {
  const pairs = counts.flatMap((row, i) => row.map((count, j) => [classes[i], classes[j], count, sum(row), !row[i], i === j]));
  const wrong = pairs.filter(([, , count, , , isRight]) => count && !isRight);
  return wrong.sort((a, b) => b[4] - a[4] || b[2] / b[3] - a[2] / a[3] || b[2] - a[2]);
}

/** Return the confusion matrix: a table of numbers if that is legible, otherwise a picture that can be read cell by cell. */
export function confusion(classes, counts) {
  if (classes.length <= LARGEST_TABLE) return confusionTable(classes, counts);
  const wrong = counts.map((row, i) => [i, row.reduce((sum, each, j) => sum + (i === j ? 0 : each), 0) + counts.reduce((sum, other, k) => sum + (k === i ? 0 : other[i]), 0)]);
  const worst = wrong.filter(([, times]) => times).sort((a, b) => b[1] - a[1]).slice(0, SHOWN_CONFUSED).map(([i]) => i).sort((a, b) => a - b);
  return [
    confusionPicture(classes, counts),
    worst.length > 1 && h("details", { "data-key": "confused" }, h("summary", {}, `The ${worst.length} most confused classes as a table`),
      confusionTable(worst.map((i) => classes[i]), worst.map((i) => worst.map((j) => counts[i][j])), worst.map((i) => counts[i].reduce((sum, each) => sum + each, 0)))),
  ];
}

function confusionTable(classes, counts, totals) {
  const rows = counts.map((row, i) => {
    const total = totals?.[i] ?? (row.reduce((sum, each) => sum + each, 0) || 1);
    return [classes[i], ...row.map((count, j) => {
      const level = count ? Math.max(1, Math.round((count / total) * 5)) : 0;
      return h("span", { class: `cell ${i === j ? "right" : "wrong"} l${level}` }, count || "·");
    })];
  });
  const heads = classes.map((name) => h("span", { class: "head", title: name }, name));
  return table("Confusion matrix: a row for each true class, a column for each predicted one", ["true \\ predicted", ...heads], rows);
}

/** Draw a matrix of many classes: each cell can be read by pointing at it or by the arrow keys. */
function confusionPicture(classes, counts) {
  const size = classes.length;
  const side = Math.max(3, Math.floor(640 / size));
  const totals = counts.map((row) => row.reduce((sum, each) => sum + each, 0) || 1);
  const told = h("p", { class: "hint", "aria-live": "polite" }, "Point at a cell, or use the arrow keys, to read it. Rows are true classes, columns are answers; red is wrong.");
  const canvas = h("canvas", { class: "matrix", width: size * side, height: size * side, role: "application", tabindex: "0",
    "aria-label": `Confusion matrix of ${size} classes: the arrow keys move, Space goes to the next mistake` });
  const pen = canvas.getContext("2d");
  const at = { row: 0, column: 0 };

  function paint(i, j) {
    const count = counts[i][j];
    pen.clearRect(j * side, i * side, side, side);
    if (!count) return;
    pen.globalAlpha = i === j ? 0.15 + 0.6 * (count / totals[i]) : 0.45 + 0.55 * (count / totals[i]);
    pen.fillStyle = i === j ? "#0d9488" : "#dc2626";
    pen.fillRect(j * side, i * side, side, side);
  }

  function go(row, column) {
    paint(at.row, at.column);
    Object.assign(at, { row: Math.max(0, Math.min(size - 1, row)), column: Math.max(0, Math.min(size - 1, column)) });
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.strokeRect(at.column * side + 0.5, at.row * side + 0.5, side - 1, side - 1);
    const times = counts[at.row][at.column];
    told.textContent = at.row === at.column
      ? `${classes[at.row]}: ${times} of ${totals[at.row]} right`
      : `${classes[at.row]} classified as ${classes[at.column]}: ${times} of ${totals[at.row]}`;
  }

  function goToMistake() {
    for (let step = 1; step <= size * size; step += 1) {
      const place = (at.row * size + at.column + step) % (size * size);
      const [i, j] = [Math.floor(place / size), place % size];
      if (i !== j && counts[i][j]) return go(i, j);
    }
    return undefined;
  }

  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    if (move) go(at.row + move[0], at.column + move[1]);
    else goToMistake();
  });
  canvas.addEventListener("pointermove", (event) => {
    const scale = size / canvas.getBoundingClientRect().width;
    go(Math.floor(event.offsetY * scale), Math.floor(event.offsetX * scale));
  });
  counts.forEach((row, i) => row.forEach((count, j) => count && paint(i, j)));
  return h("div", { class: "matrix-place" }, canvas, told);
}
