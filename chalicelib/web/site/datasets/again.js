/** Run a dataset again with changes: the recipe of a run as a form, and one button. */

import { ask, part } from "../api.js";
import { callout, count, h, paragraphs, say, section } from "../dom.js";
import { readSchema, RecipeForm } from "./recipe.js";

export async function showAgain(main, { name, signal }) {
  const [run, schema] = await Promise.all([ask(`runs/${part(name)}`, { signal }), readSchema(signal)]);
  const form = new RecipeForm(schema, { withPresets: false, isBilled: run.cost?.billed });
  form.write(run.recipe);
  const problem = h("div", { role: "alert" });
  const start = h("button", { type: "submit" }, "Run it again");
  const submit = async (event) => {
    event.preventDefault();
    start.disabled = true;
    problem.replaceChildren(callout("info", "Starting", h("p", {}, "The page opens the new run as soon as it has begun.")));
    try {
      const told = await ask(`runs/${part(name)}/retry`, { method: "POST", type: "application/json", body: JSON.stringify(form.read()), signal });
      say("A new attempt has begun.");
      location.hash = `#/runs/${part(told.run_id)}`;
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(callout("bad", "It was not started", paragraphs(error.message)));
    } finally {
      start.disabled = false;
    }
  };
  const images = run.dataset_report?.images;
  main.append(h("h1", {}, `Run ${run.dataset} again`),
    h("p", { class: "lead" }, `On the same ${images ? count(images, "image") : "images"}, with this recipe. An empty field means the default. The present model answers until the new one is deployed.`),
    h("form", { onsubmit: submit }, section("Recipe", form.element), problem, h("div", { class: "actions" }, start, h("a", { class: "button quiet", href: `#/runs/${part(name)}` }, "Cancel"))));
}
