/** Run the page's frame: the token, the routing from address to view, and what all views share. */

import { Refusal, token } from "./api.js";
import { callout, h, say } from "./dom.js";
import { drawDoor, takeFromAddress } from "./door.js";

const AGAIN = 3000; // milliseconds between two attempts while the app does not answer
const VIEWS = [
  [/^#\/runs$/, "Runs", async () => (await import("./runs/list.js")).showRuns],
  [/^#\/runs\/([^/]+)$/, "Run", async () => (await import("./run/view.js")).showRun],
  [/^#\/runs\/([^/]+)\/again$/, "Run again", async () => (await import("./datasets/again.js")).showAgain],
  [/^#\/compare\/([^/]+\/[^/]+)$/, "Compare", async () => (await import("./runs/compare.js")).showComparison],
  [/^#\/models$/, "Models", async () => (await import("./models/view.js")).showModels],
  [/^#\/models\/([^/]+)$/, "Model", async () => (await import("./models/view.js")).showModel],
  [/^#\/datasets$/, "Datasets", async () => (await import("./datasets/view.js")).showDatasets],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const leave = document.getElementById("leave");
let leaving = new AbortController();

function find(hash) {
  for (const [pattern, title, load] of VIEWS) {
    const match = hash.match(pattern);
    if (match) return { title, load, name: match[1] && decodeURIComponent(match[1]) };
  }
  return null;
}

function retitle(title) {
  document.title = `${title} · Whippet`;
}

function mark(hash) {
  const place = hash.startsWith("#/compare") ? "#/runs" : hash;
  for (const link of nav.children) {
    if (place.startsWith(link.getAttribute("href"))) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function go({ first = false } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  takeFromAddress();
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
    const show = await view.load();
    if (!signal.aborted) await show(main, { name: view.name, signal });
  } catch (error) {
    if (signal.aborted) return undefined;
    if (!(error instanceof Refusal) && !isUnreachable(error)) throw error;
    if (error.status !== 401) showFailure(view, error, signal);
  }
  const heading = main.querySelector("h1");
  if (heading && !first && !signal.aborted) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
  return undefined;
}

/** Return whether a part of the page itself could not be loaded. */
const isUnreachable = (error) => error instanceof TypeError && /import|module|fetch/i.test(error.message);

/** Say why a view cannot be shown; while the app does not answer, try again without being asked. */
function showFailure(view, error, signal) {
  const mayCome = !error.status || error.status >= 500;
  const message = error.status === undefined ? "A part of the page could not be loaded. Is the app running?" : error.message;
  main.replaceChildren(h("h1", {}, view.title),
    callout("bad", "This cannot be shown", h("p", {}, message), mayCome && h("p", {}, "The page goes on trying."),
      mayCome ? h("button", { type: "button", onclick: () => go() }, "Try now") : h("a", { class: "button", href: "#/runs" }, "All runs")));
  if (!mayCome) return;
  const timer = setTimeout(() => (error.status === undefined ? location.reload() : go({ first: true })), AGAIN);
  signal.addEventListener("abort", () => clearTimeout(timer));
}

function showDoor(message) {
  retitle("Sign in");
  const { form, field } = drawDoor(message, go);
  main.replaceChildren(form);
  field.focus();
}

addEventListener("hashchange", (event) => {
  if (new URL(event.newURL).hash !== "#main") go();
});
addEventListener("signed-in", () => go());
addEventListener("signed-out", (event) => {
  leaving.abort();
  nav.hidden = leave.hidden = true;
  showDoor(event.detail);
});
leave.addEventListener("click", () => {
  token.forget();
  localStorage.removeItem("whippet.uploads"); // what was being uploaded is nobody else's business
  say("Signed out.");
  go();
});
// A file that is dropped beside a drop zone must not take the page's place: the view's zone takes it, if there is one.
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  const zone = main.querySelector(".drop");
  if (zone?.take) zone.take(event.dataTransfer);
  else say("Nothing here takes files. Open Datasets to upload, or a model to try it.");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
go({ first: true });
