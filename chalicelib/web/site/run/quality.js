/** Show how good the model that ships is: its mistakes as images, what it confuses, and every class, the weakest first. */

import { confusion, confusedPairs } from "../charts.js";
import { copyButton, count, h, imageOf, number, percent, section, table, tiles } from "../dom.js";
import { signedLink } from "./head.js";

const MEASURES = [["accuracy", "Accuracy"], ["macro_precision", "Precision"], ["macro_recall", "Recall"], ["macro_f1", "F1"]];
const SHOWN_CLASSES = 20;
const SHOWN_IMAGES = 12;
const SHOWN_PAIRS = 8;

/** Draw everything about quality. `told` holds what /jobs and /pictures returned, and the run. */
export function drawQuality({ evaluation, baseline, pictures, skipped, job, training, comparison, fixes, run }) {
  const shipped = evaluation?.test;
  const foreign = job && training && job !== training ? " of the final training" : "";
  return [
    drawMeasures(shipped, baseline),
    drawComparison(comparison),
    shipped?.confusion && drawPairs(shipped),
    drawShots(`Mistakes${foreign}`, pictures?.mistakes, "The test images that it got wrong with the greatest confidence."),
    drawSuspects(foreign, pictures?.suspects, fixes, run),
    drawClasses(shipped),
    drawSkipped(skipped),
  ];
}

function drawMeasures(test, baseline) {
  if (!test) return null;
  const before = baseline?.test;
  const pairs = MEASURES.map(([name, words]) => [words, percent(test[name]), before && Number.isFinite(before[name]) ? `${percent(before[name])} baseline` : null]);
  return section("How good it is",
    h("p", { class: "hint" }, `Measured on ${test.images ? count(test.images, "test image") : "the test images"}, which no training saw.${before ? " The baseline is the same network with default hyperparameters, trained for the same epochs." : ""}`),
    tiles(pairs));
}

/** Show the champion against the challenger, on images that neither saw. */
export function drawComparison(comparison) {
  const live = comparison?.live;
  if (!live) return null;
  if (live.problem) return section("Against the live model", h("p", {}, live.problem));
  const { lost = [], new: added = [] } = live.classes ?? {};
  return section("Against the live model",
    h("p", { class: "hint" }, `The live model is of `, h("a", { href: `#/runs/${encodeURIComponent(live.run)}` }, live.run), ". Images that either of them was trained on are left out."),
    tableOfTests(live),
    lost.length > 0 && h("p", {}, `The new model lost ${count(lost.length, "class", "classes")}: ${lost.join(", ")}.`),
    added.length > 0 && h("p", {}, `It has ${count(added.length, "new class", "new classes")}: ${added.join(", ")}.`));
}

/** Return the table of what both models answered on the same images. */
export function tableOfTests({ tests }) {
  const rows = tests.flatMap((each) => {
    const where = each.name === "new" ? "new test images" : "test images of the live model";
    const share = (right) => (each.images ? percent((each.both + right) / each.images) : "–");
    return [[`Right on the ${count(each.images, where, where)}`, share(each.only_new), share(each.only_live)],
      ["Right where the other is wrong", count(each.only_new, "image"), count(each.only_live, "image")]];
  });
  return table("The new model against the live one", ["", "New model", "Live model"], rows, { class: "wrap" });
}

function drawPairs(test) {
  const pairs = confusedPairs(test.classes.map((each) => each.class), test.confusion);
  return section("Confused pairs", pairs.length
    ? h("ol", { class: "pairs" }, pairs.slice(0, SHOWN_PAIRS).map(([label, predicted, times, images]) =>
        h("li", {}, h("b", {}, label), " classified as ", h("b", {}, predicted), `: ${times} of ${count(images, "image")}`)))
    : h("p", {}, "No test image was assigned to another class."));
}

function shot(each) {
  return h("li", { title: each.file }, each.image && imageOf(each.image, { alt: `${each.file}` }),
    h("span", {}, "label ", h("b", {}, each.label)), h("span", {}, "model ", h("b", {}, each.predicted), Number.isFinite(each.probability) && ` ${percent(each.probability, 0)}`));
}

function drawShots(title, images, hint) {
  if (!images?.length) return null;
  return section(title, h("p", { class: "hint" }, hint), h("ul", { class: "shots" }, images.slice(0, SHOWN_IMAGES).map(shot)));
}

/** Labels that look wrong, with the file that mends them where the run has one. */
function drawSuspects(foreign, suspects, fixes, run) {
  if (!suspects?.length) return null;
  const lines = ["file,label,suggested", ...suspects.map((each) => [each.file, each.label, each.predicted].map((text) => `"${text.replaceAll('"', '""')}"`).join())].join("\n");
  return section(`Labels that look wrong${foreign}`,
    h("p", { class: "hint" }, "The model answers another class with more confidence than it usually has for that class. Look at them: a wrong label costs accuracy twice."),
    h("ul", { class: "shots" }, suspects.slice(0, SHOWN_IMAGES).map(shot)),
    h("div", { class: "actions" }, fixes ? signedLink(run, "fixes", fixes, { class: "button quiet" }, "The whole list (dataset-fixes.csv)") : copyButton(lines, "Copy the list as CSV")));
}

function drawClasses(test) {
  if (!test?.classes) return null;
  const weakest = [...test.classes].sort((a, b) => !a.support - !b.support || a.recall - b.recall || b.support - a.support);
  const rows = weakest.map((each) => each.support
    ? [each.class, percent(each.recall), percent(each.precision), percent(each.f1), number(each.support)]
    : [each.class, h("span", { class: "hint" }, "no test image"), "–", "–", "0"]);
  const whole = table("Quality by class, the weakest first", ["Class", "Recall", "Precision", "F1", "Images"], rows);
  const names = test.classes.map((each) => each.class);
  return section("Class by class",
    h("p", { class: "hint" }, "Recall is the share of a class's test images that are recognised; precision the share of right answers among those that name the class. The weakest class is first."),
    rows.length > SHOWN_CLASSES
      ? [table("The weakest classes", ["Class", "Recall", "Precision", "F1", "Images"], rows.slice(0, 8)), h("details", { "data-key": "by-class" }, h("summary", {}, `All ${rows.length} classes`), whole)]
      : whole,
    test.confusion && [h("h3", {}, "Confusion matrix"), confusion(names, test.confusion)]);
}

function drawSkipped(skipped) {
  const files = skipped?.skipped ?? [];
  if (!files.length) return null;
  const text = (words) => h("span", { class: "text" }, words ?? "");
  const rows = files.map((each) => [text(each.name), text(each.reason), each.format]);
  return section("Skipped images",
    h("p", { class: "hint" }, `${count(files.length, "image")} could not be read and ${files.length === 1 ? "was" : "were"} left out; ${number(skipped.images)} were used.`),
    h("details", { "data-key": "skipped" }, h("summary", {}, "The files"), table("Skipped images", ["File", "What is wrong", "Format"], rows)));
}
