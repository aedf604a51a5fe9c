// Questions to the server. A view has one question under way: a newer one, or another view, ends it.

import { parse } from "./json.js";

// A proxy may put a prefix before everything, and a URL may carry a name and a password, which fetch() refuses.
const root = new URL("..", import.meta.url);
root.username = root.password = "";

/** What the server said no to, in its words. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** The URL of a path, given in parts that are escaped here, with its query as pairs. */
export function url(parts, pairs = []) {
  const made = new URL(parts.map(encodeURIComponent).join("/"), root);
  made.search = new URLSearchParams(pairs).toString();
  return made;
}

async function ask(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, "the server cannot be reached");
  }
}

async function answer(response, read = JSON.parse) {
  if (response.ok) return read(await response.text());
  const told = await response.json().catch(() => ({}));
  throw new Refused(response.status, told.error ?? `the server answered ${response.status}`);
}

/** JSON of a path. */
export async function get(parts, pairs, signal) {
  return answer(await ask(url(parts, pairs), { signal, headers: { accept: "application/json" } }));
}

/** The same, of values that are shown as they are and not counted with: each whole number has all of its digits. */
export async function getExact(parts, pairs, signal) {
  return answer(await ask(url(parts, pairs), { signal, headers: { accept: "application/json" } }), parse);
}

/** An order, such as POST with a JSON body. */
export async function order(method, parts, body) {
  const headers = { "content-type": "application/json" };
  const response = await ask(url(parts), { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) await answer(response);
}

/** Makes `{ signal }` for the newest question; the one before is given up. */
export class Newest {
  #controller = new AbortController();

  next() {
    this.stop();
    this.#controller = new AbortController();
    return this.#controller.signal;
  }

  stop() {
    this.#controller.abort();
  }
}
