/** Sign in: by an address that carries the token in its fragment, or by typing it. The fragment reaches no server. */

import { ask, token } from "./api.js";
import { h, IS_LOCAL } from "./dom.js";

/** Take a token out of the address, as `make up` prints it, so that it is neither shown nor kept in the history. */
export function takeFromAddress() {
  const [, given] = /^#token=([^&]+)$/.exec(location.hash) ?? [];
  if (!given) return;
  token.keep(token.clean(decodeURIComponent(given)));
  history.replaceState(null, "", "#/runs");
}

/** Return the form that asks for the token. `enter()` is called once the token was accepted. */
export function drawDoor(message, enter) {
  const problem = h("p", { class: "problem", role: "alert", id: "problem" }, message);
  const field = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "hint problem",
  });
  const button = h("button", { type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    const key = token.clean(field.value);
    if (!key) return;
    button.disabled = true;
    problem.textContent = "";
    try {
      await ask("runs?limit=1", { key });
      token.keep(key);
      await enter();
    } catch (error) {
      problem.textContent = error.message;
      field.select();
    } finally {
      button.disabled = false;
    }
  };
  const where = IS_LOCAL
    ? [" On this machine there is a shorter way: open the address that ", h("code", {}, "make up"), " printed. The token is also ",
      h("code", {}, "$API_TOKEN"), " in ", h("code", {}, ".localcloud/env"), "."]
    : [" It is in the secret that ", h("code", {}, "make deploy"), " names."];
  const form = h("form", { class: "door card", onsubmit: submit },
    h("h1", {}, "Sign in"),
    h("label", { for: "token" }, "Token"),
    field,
    h("p", { class: "hint", id: "hint" }, "It is kept in this browser until you sign out.", where),
    problem, button);
  return { form, field };
}
