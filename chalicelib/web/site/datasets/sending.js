/** Send a file or a folder to the bucket: whole if it is small, in parts if it is large. A cut connection is waited out. */

import { ask, part } from "../api.js";
import { arrived, forget, hold, markOf, recall, remember } from "./resuming.js";

const AT_ONCE = 3; // parts under way at a time
const PAUSES = [1, 2, 4, 8, 15, 30]; // seconds before a part is sent again; the last one is repeated
const MOST_TRIES = 60;

/** PUT bytes to a URL; `told(sent)` reports progress. XMLHttpRequest, since fetch reports no upload progress. */
function put(url, body, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.upload.addEventListener("progress", (event) => told(event.loaded));
    request.addEventListener("load", () => (request.status < 300 ? resolve(request.getResponseHeader("ETag")) : reject(new Refused(request))));
    request.addEventListener("error", () => reject(new Cut()));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    request.addEventListener("loadend", () => signal.removeEventListener("abort", stop));
    signal.addEventListener("abort", stop);
    request.open("PUT", url);
    request.send(body);
  });
}

class Cut extends Error {
  constructor() {
    super("The bucket cannot be reached, or it refuses uploads from this page.");
  }
}

class Refused extends Error {
  constructor(request) {
    const message = /<Message>([^<]*)<\/Message>/.exec(request.responseText)?.[1];
    super(message ? `The bucket refused it: ${message}` : `The bucket refused it with status ${request.status}.`);
    this.status = request.status;
  }
}

/** Wait before another attempt: for so many seconds, or until the browser says that it is online again. */
function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    const now = () => { clearTimeout(timer); resolve(); };
    addEventListener("online", now, { once: true, signal });
    signal.addEventListener("abort", now, { once: true });
  });
}

/** Send one part. Try again while the connection is cut, and ask once for a new address where the old one has expired. */
async function send(part, read, tell, renew, signal) {
  for (let tries = 0, renewed = false; ; tries += 1) {
    try {
      return await put(part.url, await read(), (sent) => tell.progress(sent), signal);
    } catch (error) {
      if (error.status === 403 && renew && !renewed && !signal.aborted) {
        renewed = true;
        await renew();
        continue;
      }
      const mayPass = error instanceof Cut || error.status >= 500;
      if (signal.aborted || !mayPass || tries >= MOST_TRIES) throw error;
      tell.progress(0);
      tell.waiting(tries);
      await pause(PAUSES[Math.min(tries, PAUSES.length - 1)], signal);
    }
  }
}

/**
 * Send a dataset. `source` has `size` and `slice(start, end)`, as a File has, or returns promises of blobs. `tell(sent,
 * isCut)` gets the bytes that have arrived and whether the connection is cut at the moment. What was sent in parts before
 * goes on where it was interrupted.
 */
export function sendDataset(name, source, tell, signal) {
  const mark = markOf(name, source);
  return hold(mark, async () => {
    const asked = { method: "POST", type: "application/json", body: JSON.stringify({ kind: "dataset", name, size: source.size }), signal };
    const place = (await recall(mark, signal)) ?? (await ask("uploads", asked));
    if (!place.parts) return sendParts([{ number: 1, size: source.size, url: place.url }], source, { tell }, signal);
    remember(mark, { id: place.id, name, size: source.size, sent: arrived(place) });
    const renew = async () => {
      const { parts } = await ask(`uploads/${part(place.id)}`, { signal });
      for (const each of place.parts) each.url = parts[each.number - 1].url ?? each.url;
    };
    const etags = await sendParts(place.parts, source, { tell, renew, kept: (sent) => remember(mark, { sent }) }, signal);
    await complete(place.complete, etags, signal);
    return forget(mark);
  });
}

/** Send the parts that have not arrived yet; return [{number, etag}] of all. `kept(sent)` is told when a part has arrived. */
async function sendParts(parts, source, { tell, renew, kept = () => {} }, signal) {
  const sent = new Map();
  const etags = [];
  let offset = 0;
  for (const each of parts) {
    each.offset = offset;
    offset += each.size;
    if (!each.etag) continue;
    sent.set(each.number, each.size);
    etags.push({ number: each.number, etag: each.etag });
  }
  const sum = () => [...sent.values()].reduce((total, each) => total + each, 0);
  const report = (isCut) => tell(sum(), isCut);
  const left = parts.filter((each) => !each.etag);
  const stopping = new AbortController(); // one part that fails for good ends the others
  const both = AbortSignal.any([signal, stopping.signal]);
  const work = async () => {
    for (let each = left.shift(); each; each = left.shift()) {
      const { number, size, offset: from } = each;
      const told = {
        progress: (bytes) => { sent.set(number, bytes); report(false); },
        waiting: () => report(true),
      };
      etags.push({ number, etag: await send(each, () => source.slice(from, from + size), told, renew, both) });
      sent.set(number, size);
      kept(etags.reduce((total, { number: one }) => total + parts[one - 1].size, 0));
      report(false);
    }
  };
  report(false);
  try {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, left.length) }, work));
  } catch (error) {
    stopping.abort();
    throw error;
  }
  return etags;
}

async function complete(route, parts, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask(route.split("/").map(part).join("/"), { method: "POST", type: "application/json", body: JSON.stringify({ parts }), signal });
    } catch (error) {
      if (signal.aborted || (error.status && error.status < 500) || tries >= MOST_TRIES) throw error;
      await pause(PAUSES[Math.min(tries, PAUSES.length - 1)], signal);
    }
  }
}
