/** Call the app's routes with the user's token, and poll more slowly while nothing changes. */

const BASE = new URL(".", document.baseURI);
const KEY = "whippet.token";
const FASTEST = 1000;
const SLOWEST = 20000;
const SLOWER = 1.5;

const WORDLESS = { 413: "This is too large for one request.", 429: "That was too much at once. Wait a moment, then try again.", 503: "The app is busy. Try again in a moment.", 504: "The app did not answer in time. Try again." };

/** A route's refusal, in its own words. */
export class Refusal extends Error {
  constructor(status, code, message, retryAfter) {
    super(leaveOutRoutes(message));
    Object.assign(this, { status, code, retryAfter, mayPass: !status || status === 429 || status >= 500 });
  }
}

/** Leave out what only callers of the API want to know: here are buttons and links for it. */
export const leaveOutRoutes = (text) => text.replace(/,? or [^.,]*(GET|PUT|POST|DELETE) \/[^.]*(?=\.)/g, "").replace(/ ?(GET|PUT|POST|DELETE) \/[^.]*(\.\w[^.]*)*\./g, "");

/** The token, kept in this browser until the user signs out: all tabs share it. */
export const token = {
  get: () => localStorage.getItem(KEY),
  keep: (value) => localStorage.setItem(KEY, value),
  forget: () => localStorage.removeItem(KEY),
  /** Return a token as people paste it, without what is not the token's own. */
  clean: (text) => text.trim().replace(/^(export\s+)?API_TOKEN=/i, "").replace(/^(Authorization:\s*)?Bearer\s+/i, "").replace(/^(["'])(.*)\1$/, "$2").trim(),
};

addEventListener("storage", (event) => {
  if (event.key === KEY || event.key === null) dispatchEvent(new CustomEvent(token.get() ? "signed-in" : "signed-out"));
});

/** Call a route; return its JSON or throw a Refusal. An unknown token also ends the session. */
export async function ask(path, { method = "GET", body, type, signal, key = token.get() } = {}) {
  const headers = { Authorization: `Bearer ${key}`, ...(type && { "Content-Type": type }) };
  let response;
  try {
    response = await fetch(new URL(path, BASE), { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "NoAnswer", "The app does not answer. Is it running, and are you connected?");
  }
  const told = await response.json().catch(() => ({}));
  if (response.ok) return told;
  const message = told.error?.message ?? WORDLESS[response.status] ?? told.message ?? `The app answered with status ${response.status}.`;
  if (response.status === 401 && key === token.get()) {
    token.forget();
    dispatchEvent(new CustomEvent("signed-out", { detail: message }));
  }
  throw new Refusal(response.status, told.error?.code ?? "Refused", message, Number(response.headers.get("Retry-After")));
}

export const part = encodeURIComponent;

function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function untilSeen(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const look = () => !document.hidden && resolve();
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** The whole address of a route. */
export const addressOf = (path) => String(new URL(path, BASE));

/**
 * Show a view and keep it up to date: `look` is awaited once before anything is drawn, then polled. Returns a function
 * that starts the polling, once the view's elements are in place.
 */
export async function firstLook(look, signal, failed) {
  const first = look();
  const seen = await first;
  return () => {
    if (seen === null) return;
    let started = false;
    poll(signal, () => (started ? look() : ((started = true), first)), failed);
  };
}

/**
 * Poll until `look` returns null or the view is left. Each look returns a text; while that stays the same, or the app
 * does not answer, the interval grows. A hidden page does not poll.
 */
export async function poll(signal, look, failed = () => {}) {
  let [delay, last] = [FASTEST, undefined];
  while (!signal.aborted) {
    let seen = last;
    try {
      seen = await look();
      if (seen === null) return;
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      failed(error);
      if (error.status && error.status < 500) return;
    }
    delay = seen === last ? Math.min(delay * SLOWER, SLOWEST) : FASTEST;
    last = seen;
    await wait(delay, signal);
    await untilSeen(signal);
  }
}
