/** Run the page's frame: the token, the routing from address to view, and what all views share. */

import { ask, Refusal, token } from "./api.js";
import { showDatasets } from "./datasets.js";
import { callout, h, say } from "./dom.js";
import { showModel, showModels } from "./models.js";
import { showRun } from "./run.js";
import { showRuns } from "./runs.js";

const VIEWS = [
  [/^#\/runs$/, "Runs", showRuns],
  [/^#\/runs\/([^/]+)$/, "Run", showRun],
  [/^#\/models$/, "Models", showModels],
  [/^#\/models\/([^/]+)$/, "Model", showModel],
  [/^#\/datasets$/, "Datasets", showDatasets],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const leave = document.getElementById("leave");
let leaving = new AbortController();

function find(hash) {
  for (const [pattern, title, show] of VIEWS) {
    const match = hash.match(pattern);
    if (match) return { title, show, name: match[1] && decodeURIComponent(match[1]) };
  }
  return null;
}

function retitle(title) {
  document.title = `${title} · Whippet`;
}

function mark(hash) {
  for (const link of nav.children) {
    if (hash.startsWith(link.getAttribute("href"))) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function go({ first = false } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const signedIn = Boolean(token.get());
  nav.hidden = leave.hidden = !signedIn;
  if (!signedIn) return showDoor();
  if (location.hash === "#main") history.replaceState(null, "", "#/runs");
  const view = find(location.hash || "#/runs");
  if (!view) return location.replace("#/runs");
  mark(location.hash || "#/runs");
  retitle(view.name ?? view.title);
  main.replaceChildren();
  if (!first) scrollTo(0, 0);
  try {
    await view.show(main, { name: view.name, signal });
  } catch (error) {
    if (signal.aborted) return undefined;
    if (!(error instanceof Refusal)) throw error;
    if (error.status !== 401) main.append(h("h1", {}, view.title), callout("bad", "This cannot be shown", h("p", {}, error.message)));
  }
  const heading = main.querySelector("h1");
  if (heading && !first && !signal.aborted) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
  return undefined;
}

function showDoor(message) {
  retitle("Sign in");
  const problem = h("p", { class: "problem", role: "alert", id: "problem" }, message);
  const field = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "hint problem",
  });
  const button = h("button", { type: "submit" }, "Sign in");
  const enter = async (event) => {
    event.preventDefault();
    const key = field.value.trim();
    if (!key) return;
    button.disabled = true;
    problem.textContent = "";
    try {
      await ask("runs?limit=1", { key });
      token.keep(key);
      await go();
    } catch (error) {
      problem.textContent = error.message;
      field.select();
    } finally {
      button.disabled = false;
    }
  };
  main.replaceChildren(h("form", { class: "door card", onsubmit: enter },
    h("h1", {}, "Sign in"),
    h("label", { for: "token" }, "Token"),
    field,
    h("p", { class: "hint", id: "hint" }, "It is kept until you close this tab. On the local cloud it is ", h("code", {}, "$API_TOKEN"),
      " in ", h("code", {}, ".localcloud/env"), "."),
    problem, button));
  field.focus();
}

addEventListener("hashchange", (event) => {
  if (new URL(event.newURL).hash !== "#main") go();
});
addEventListener("signed-out", (event) => {
  leaving.abort();
  nav.hidden = leave.hidden = true;
  showDoor(event.detail);
});
leave.addEventListener("click", () => {
  token.forget();
  say("Signed out.");
  go();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
go({ first: true });
