/** Remember the uploads in parts, so that one goes on after a cut connection, a reload or a closed tab: the same file is chosen again. */

import { ask, part } from "../api.js";

const KEY = "whippet.uploads";
const KEPT = 23 * 3600_000; // milliseconds; the app keeps an upload for a day

function read() {
  try {
    const fresh = Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {}).filter(([, each]) => Date.now() - each.at < KEPT);
    return Object.fromEntries(fresh);
  } catch {
    return {}; // what is not ours is not read
  }
}

function write(all) {
  if (Object.keys(all).length) localStorage.setItem(KEY, JSON.stringify(all));
  else localStorage.removeItem(KEY);
}

/** Return what tells one upload from another: the dataset's name, and the files' names, sizes and times. */
export const markOf = (name, source) => `${name}\n${source.mark ?? [source.name, source.size, source.lastModified].join("\n")}`;

export const remember = (mark, told) => write({ ...read(), [mark]: { ...read()[mark], ...told, at: read()[mark]?.at ?? Date.now() } });

export function forget(mark) {
  const { [mark]: _, ...rest } = read();
  write(rest);
}

export const forgetAll = () => localStorage.removeItem(KEY);

/** Hold an upload while it is sent, so that other tabs do not call it interrupted. */
export const hold = (mark, work) => (navigator.locks ? navigator.locks.request(KEY + mark, work) : work());

/** List the uploads that nobody sends at the moment: {mark, id, name, size, sent}. */
export async function listInterrupted() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return Object.entries(read()).map(([mark, each]) => ({ mark, ...each })).filter(({ mark }) => !held.some((lock) => lock.name === KEY + mark));
}

/** Return where an upload goes on: what the app answers about it, or null if there is nothing to go on with. */
export async function recall(mark, signal) {
  const known = read()[mark];
  if (!known) return null;
  try {
    const place = await ask(`uploads/${part(known.id)}`, { signal });
    if (place.size === known.size) return place;
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  forget(mark);
  return null;
}

/** Return how many bytes of an upload have arrived. */
export const arrived = (place) => place.parts.filter((each) => each.etag).reduce((sum, each) => sum + each.size, 0);
