/** Try a model: with the reader's images or the run's own test images, and see what a threshold would do. */

import { ask, part } from "../api.js";
import { bars } from "../charts.js";
import { blobOf, bytes, callout, h, imageOf, live, percent, say, section } from "../dom.js";
import { dropZone } from "./drop.js";

const TOP = 5;
const LARGEST = 4_000_000; // bytes; Lambda's limit is a little higher
const LONGEST = 2048; // pixels; no model here uses more
const SERVED = ["image/jpeg", "image/png", "image/webp"];

/** Return an image that the route accepts: unchanged if possible, otherwise scaled down. */
async function prepare(file) {
  if (file.size <= LARGEST || !file.type.startsWith("image/")) return file;
  const drawn = await createImageBitmap(file).catch(() => { throw new Error("It is too large to be sent as it is, and this browser cannot make it smaller. Save it as a JPEG of less than 4 MB."); });
  const scale = Math.min(1, LONGEST / Math.max(drawn.width, drawn.height));
  const canvas = h("canvas", { width: Math.round(drawn.width * scale), height: Math.round(drawn.height * scale) });
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

/** What an answer is worth at a threshold, by the test images: coverage and accuracy. */
class Threshold {
  constructor(changed) {
    this.slider = h("input", { type: "range", id: "threshold", min: "0", max: "0.99", step: "0.01", value: "0", oninput: () => { this.draw(); changed(); } });
    this.told = h("p", { class: "hint", "aria-live": "polite" });
    this.element = h("div", { hidden: true }, h("p", { class: "row" }, h("label", { for: "threshold" }, "Answer only when sure at least"), this.slider), this.told);
  }

  get value() {
    return Number(this.slider.value);
  }

  know(curve) {
    this.curve = curve;
    this.element.hidden = !curve?.length;
    if (curve?.length) this.draw();
  }

  draw() {
    const at = this.curve.findLast((each) => each.threshold <= this.value + 1e-9) ?? this.curve[0];
    this.told.textContent = `At ${percent(this.value, 0)}, ${percent(at.coverage)} of the test images get an answer, and ${percent(at.accuracy)} of those answers are right.`;
  }
}

export class Tester {
  constructor(name, signal) {
    Object.assign(this, { name, signal });
    this.answers = h("ul", { class: "answers", "aria-label": "Answers, the newest first" });
    this.samples = live((found) => found?.length > 0 && [
      h("p", { class: "hint" }, "Or try a test image of the run:"),
      h("ul", { class: "shots small" }, found.map((each) => h("li", {}, h("button", { type: "button", class: "sample", "aria-label": `Try a test image of ${each.label}`, onclick: () => this.trySample(each) }, imageOf(each.image), h("span", {}, each.label)))))]);
    this.threshold = new Threshold(() => this.judgeAll());
    const zone = dropZone({
      id: "picture", label: "Drop an image, or choose one", hint: "JPEG, PNG or WebP", accept: SERVED.join(),
      take: (files) => files.forEach(({ file }) => this.classify(file)),
    });
    this.element = section("Try it", zone, this.samples, this.threshold.element, this.answers);
    signal.addEventListener("abort", () => this.answers.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src)));
  }

  /** Learn which run serves, and show its test images and its threshold curve. Neither is waited for. */
  know(model) {
    const known = this.model?.run_id;
    this.model = model;
    if (!model.run_id || known === model.run_id) return;
    const read = async (what, show) => {
      try {
        show(await ask(`runs/${part(model.run_id)}/${what}`, { signal: this.signal }));
      } catch { /* a run that was removed has neither */ }
    };
    read("pictures", (told) => this.samples.show(told.samples));
    read("jobs", (told) => this.threshold.know(told.thresholds));
  }

  trySample({ file, image, label }) {
    const blob = blobOf(image);
    this.classify(new File([blob], file.split("/").at(-1), { type: blob.type }), label);
  }

  async classify(file, label) {
    const image = h("img", { src: URL.createObjectURL(file), alt: `The image ${file.name}` });
    const item = h("li", { class: "answer" });
    image.addEventListener("error", () => { image.remove(); item.classList.add("bare"); });
    const result = h("div", { class: "result" });
    item.append(image, h("div", {}, h("h3", {}, file.name, " ", h("small", {}, bytes(file.size), label && `, labelled ${label}`)), result));
    this.answers.prepend(item);
    await this.answer(file, item, result);
  }

  async answer(file, item, result) {
    result.replaceChildren(h("p", { class: "hint" }, "Asking the model …"));
    try {
      const picture = await prepare(file);
      const answer = await ask(`models/${part(this.name)}/predict?top=${TOP}`, { method: "POST", body: picture, type: picture.type || "application/octet-stream", signal: this.signal });
      const best = answer.results[0].predictions[0];
      Object.assign(item, { best, verdict: h("p", { class: "verdict" }) });
      result.replaceChildren(this.drawAnswer(answer, item, picture));
      this.judgeAll();
      say(`${file.name}: ${best.class}, ${percent(best.probability)}`);
    } catch (error) {
      const text = error.code === "UnsupportedMediaType" ? "This is not an image. Send a JPEG, PNG or WebP." : error.message;
      const again = error.mayPass && h("button", { type: "button", class: "quiet small", onclick: () => this.answer(file, item, result) }, "Try again");
      if (!this.signal.aborted) result.replaceChildren(callout("bad", "No answer", h("p", {}, text), again));
    }
  }

  drawAnswer(answer, item, picture) {
    return h("div", {}, item.verdict,
      answer.results[0].known === false && callout("warn", "It fits no class", h("p", {}, "The model has learnt nothing like this image; these are the classes that it is nearest to.")),
      bars("Classes, the likeliest first", answer.results[0].predictions.map((each) => [each.class, each.probability])),
      h("p", { class: "hint" }, `Answered in ${Math.round(answer.milliseconds)} ms by `, h("a", { href: `#/runs/${part(answer.run_id)}` }, answer.run_id)),
      this.drawExplain(picture));
  }

  /** Ask for the heat map on demand; the place says so where the model cannot draw one. */
  drawExplain(picture) {
    const place = h("div", { class: "heat" });
    const button = h("button", { type: "button", class: "quiet small", onclick: async () => {
      button.disabled = true;
      try {
        const told = await ask(`models/${part(this.name)}/predict?top=1&explain=true`, { method: "POST", body: picture, type: picture.type || "application/octet-stream", signal: this.signal });
        const map = told.results[0].explanation;
        if (map) button.remove();
        place.replaceChildren(map ? imageOf(map.image, { alt: `What spoke for ${map.class}: the warmer, the more it counted` }) : h("p", { class: "hint" }, "This model draws no heat map."));
      } catch (error) {
        if (!this.signal.aborted) place.replaceChildren(h("p", { class: "problem" }, error.message));
      } finally {
        button.disabled = false;
      }
    } }, "Why? Show what it looked at");
    return h("div", {}, button, place);
  }

  judgeAll() {
    const least = this.threshold.value;
    for (const { best, verdict } of this.answers.children) {
      if (!verdict) continue;
      verdict.textContent = least === 0 ? "" : best.probability >= least ? "Sure enough to answer." : "Not sure enough: it would not answer.";
    }
  }
}
