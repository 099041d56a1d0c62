/** Choose how a dataset is learnt: three presets, or every member of the recipe as a form made from its JSON Schema. */

import { ask } from "../api.js";
import { h, ticked } from "../dom.js";

const QUICK = { passes: 1200, least: 3, most: 20 }; // epochs of `quick`: from scratch a few images need more of them, and these cost as little
const PRESETS = {
  quick: {
    words: "Quick",
    hint: ({ epochs }) => `a first impression in minutes: 2 trials of ${epochs} epochs; of a pretrained network only the last layer is trained`,
    recipe: (images) => ({ trials: 2, epochs: Math.min(QUICK.most, Math.max(QUICK.least, Math.round(QUICK.passes / images) || 0)), ranges: { fine_tune: ["head"] } }),
  },
  balanced: { words: "Balanced", hint: () => "the defaults: 6 trials of 8 epochs", recipe: () => ({}) },
  best: { words: "Best", hint: () => "the highest accuracy, for several times the time, and on AWS the cost: 12 trials of 20 epochs", recipe: () => ({ trials: 12, epochs: 20, patience: 5, ranges: { fine_tune: ["last_block", "all"] } }) },
};
const SHOWN_FIRST = ["architecture", "budget_usd"];
const LEFT_OUT = ["$schema"];
const UNBILLED = "Nothing is charged here: it limits the run as if AWS's prices were paid.";
const COMMON = ["resnet18", "resnet50", "efficientnet_b0", "convnext_tiny", "mobilenet_v3_large"];
let schema, forms = 0;

export async function readSchema(signal) {
  schema ??= await ask("recipes/schema", { signal });
  return schema;
}

/** Leave out links to pages of the documentation, which are not served here. */
const unlink = (text) => text?.replace(/ ?\(\[[^\]]*\]\([^)]*\)\)/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const title = (name) => name.replaceAll("_", " ").replace(/\busd\b/, "in USD");

/** One member of the recipe: a field, and `read()`, which returns its value; undefined for the default. */
class Field {
  constructor(path, rule, number) {
    Object.assign(this, { path, rule });
    this.id = `recipe-${number}-${path.join("-")}`;
    this.input = this.make();
  }

  make() {
    const { type, enum: choices, items, default: standard } = this.rule;
    const common = { id: this.id, "aria-describedby": `${this.id}-hint`, "data-path": this.path.join(".") };
    if (choices) {
      const sorted = this.path[0] === "architecture" ? [...COMMON, ...choices.filter((each) => !COMMON.includes(each))] : choices;
      return h("select", common, h("option", { value: "" }, standard === undefined ? "–" : `${standard} (default)`), sorted.filter((each) => each !== standard).map((each) => h("option", { value: each }, each)));
    }
    if (type === "boolean") return h("select", common, h("option", { value: "" }, `${standard} (default)`), h("option", { value: String(!standard) }, String(!standard)));
    const shown = standard === undefined || standard === "" ? "" : Array.isArray(standard) ? standard.join(", ") : standard;
    if (type === "array") return h("input", { ...common, type: "text", placeholder: shown || (items?.enum ? items.enum.slice(0, 3).join(", ") : "a, b") });
    if (type === "string") return h("input", { ...common, type: "text", placeholder: shown });
    return h("input", { ...common, type: "number", placeholder: shown, min: this.rule.minimum ?? 0, max: this.rule.maximum, step: type === "integer" ? 1 : "any" });
  }

  read() {
    const text = this.input.value.trim();
    if (text === "") return undefined;
    const { type, items } = this.rule;
    if (type === "boolean") return text === "true";
    if (type === "integer" || type === "number") return Number(text);
    if (type !== "array") return text;
    const parts = text.split(",").map((each) => each.trim()).filter(Boolean);
    return ["integer", "number"].includes(items?.type) ? parts.map(Number) : parts;
  }

  write(value) {
    const isDefault = value === undefined || value === null || same(value, this.rule.default);
    this.input.value = isDefault ? "" : Array.isArray(value) ? value.join(", ") : String(value);
  }

  draw() {
    return h("div", { class: "field" }, h("label", { for: this.id }, title(this.path.at(-1))), this.input, h("p", { class: "hint", id: `${this.id}-hint` }, ticked(unlink(this.rule.description))));
  }
}

/** A form for a recipe. `.read()` returns the document without its defaults, `.write(document)` fills the form. */
export class RecipeForm {
  constructor(rules, { withPresets = true, isBilled = true } = {}) {
    const number = this.number = forms += 1; // several forms may stand on one page
    this.fields = [];
    const first = h("div", { class: "fields" });
    const rest = h("div", { class: "fields" });
    for (const [name, rule] of Object.entries(rules.properties)) {
      if (LEFT_OUT.includes(name)) continue;
      const drawn = this.add([name], name === "budget_usd" && !isBilled ? { ...rule, description: `${rule.description} ${UNBILLED}` } : rule);
      (SHOWN_FIRST.includes(name) ? first : rest).append(drawn);
    }
    this.hint = h("p", { class: "hint" });
    const choices = Object.entries(PRESETS).map(([name, { words }]) => h("label", { class: "choice" },
      h("input", { type: "radio", name: `preset-${number}`, value: name, checked: name === "balanced", onchange: () => this.choose(name) }), words));
    this.element = h("div", { class: "recipe" },
      withPresets && h("fieldset", { class: "choices" }, h("legend", {}, "How thorough"), choices), withPresets && this.hint, first,
      h("details", { "data-key": "recipe" }, h("summary", {}, "All settings"), rest));
    if (withPresets) this.choose("balanced");
  }

  add(path, rule) {
    if (rule.type !== "object") {
      const field = new Field(path, rule, this.number);
      this.fields.push(field);
      return field.draw();
    }
    const inner = Object.entries(rule.properties ?? {}).map(([name, own]) => {
      const standard = rule.default?.[name];
      return this.add([...path, name], standard === undefined ? own : { default: standard, ...own });
    });
    return h("fieldset", { class: "group" }, h("legend", {}, title(path.at(-1))), rule.description && h("p", { class: "hint" }, ticked(unlink(rule.description))), inner);
  }

  choose(name) {
    const { words, hint, recipe } = PRESETS[(this.chosen = name)];
    const document = recipe(this.images);
    this.hint.textContent = `${words}: ${hint(document)}.`;
    this.write(document, { keep: SHOWN_FIRST });
  }

  /** Learn how many images there are: a preset may depend on it. */
  know(images) {
    this.images = images || undefined; // none is for a zip that cannot be listed here
    if (this.chosen === "quick") this.choose("quick");
  }

  /** Fill the form. A recipe of the dataset's own is none of the presets. */
  write(document, { keep = [], isOwn = false } = {}) {
    if (isOwn) for (const each of this.element.querySelectorAll("[name^=preset]")) each.checked = false;
    for (const field of this.fields) {
      if (keep.includes(field.path[0])) continue;
      field.write(field.path.reduce((value, name) => value?.[name], document));
    }
    if (isOwn) this.hint.textContent = `As the last run of this dataset: ${this.tellChanged()}. Choose one of the three to begin afresh.`;
  }

  /** Say in what the form is not the default, as far as that is one value; what `auto` came to is no change. */
  tellChanged() {
    const told = Object.entries(this.read()).filter(([name, value]) => name !== "objective" && (typeof value !== "object" || Array.isArray(value)));
    return told.map(([name, value]) => `${title(name)} ${value}`).join(", ") || "all defaults";
  }

  read() {
    const document = {};
    for (const field of this.fields) {
      const value = field.read();
      if (value === undefined) continue;
      let place = document;
      for (const name of field.path.slice(0, -1)) place = place[name] ??= {};
      place[field.path.at(-1)] = value;
    }
    for (const [name, rule] of Object.entries(document.ranges ?? {})) { // an end that is left alone keeps its default
      if (!rule || Array.isArray(rule) || rule.values) continue;
      const own = schema.properties.ranges.properties[name].default;
      document.ranges[name] = { ...own, ...rule };
    }
    return document;
  }
}
