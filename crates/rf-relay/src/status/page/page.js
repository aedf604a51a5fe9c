// Keeps the page fresh: on each "look again" it fetches itself and changes only what differs, so that focus, selection
// and scrolling stay. Without this script the browser reloads the page now and then.
"use strict";

const main = document.getElementById("main");
const live = document.getElementById("live");
let busy = false;

// By which address the page is reached, the relay does not know: a tunnel or a reverse proxy may stand before it.
document.getElementById("command").textContent = `replayforge status --relay ${new URL(".", location.href).href}`;

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  children(old, [...fresh.childNodes]);
}

function children(old, fresh) {
  const kept = new Set(fresh.map((wanted) => wanted.id));
  for (const child of [...old.children]) {
    if (child.id && !kept.has(child.id)) child.remove();
  }
  let at = old.firstChild;
  for (const wanted of fresh) {
    // What has an id keeps its element when it moves, and when others come before it.
    const known = wanted.id ? [...old.children].find((child) => child.id === wanted.id) : null;
    if (known && known !== at) old.insertBefore(known, at);
    const here = known || (wanted.id || at?.id ? null : at);
    if (here) {
      at = here.nextSibling;
      morph(here, wanted);
    } else {
      old.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function refresh() {
  if (busy || document.hidden) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    if (!answer.ok || !fresh) throw new Error(String(answer.status));
    document.title = page.title;
    morph(document.querySelector("header .facts"), page.querySelector("header .facts"));
    const focused = document.activeElement;
    morph(main, fresh);
    // An element that moves loses the focus.
    if (focused !== document.activeElement && main.contains(focused)) focused.focus({ preventScroll: true });
    filter();
    say("live", "");
  } catch {
    say("not connected to the relay: what you see is old", "stale");
  } finally {
    busy = false;
  }
}

function say(text, state) {
  if (live.textContent !== text) live.textContent = text;
  live.className = `live ${state}`;
}

// The filter exists only where it works.
const nodes = document.getElementById("nodes");
const box = document.createElement("input");
if (nodes) {
  box.type = "search";
  box.placeholder = "Filter nodes and buckets";
  box.setAttribute("aria-label", "Filter nodes and buckets");
  box.className = "filter";
  box.addEventListener("input", filter);
  main.before(box);
}

function filter() {
  const wanted = box.value.trim().toLowerCase();
  for (const row of document.querySelectorAll("#nodes tbody tr, #buckets tbody tr")) {
    row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
  }
}

// A browser has six connections for a server, whatever the number of tabs: only a page that is seen keeps one.
let ticks = null;
let later = 0;

function listen() {
  leave();
  if (document.hidden) return;
  ticks = new EventSource("live");
  ticks.onopen = () => say("live", "");
  ticks.onmessage = refresh;
  ticks.onerror = () => {
    say("not connected to the relay: what you see is old", "stale");
    // The browser tries again by itself, unless it was refused.
    if (ticks.readyState === EventSource.CLOSED) later = setTimeout(listen, 10000);
  };
}

function leave() {
  clearTimeout(later);
  if (ticks) ticks.close();
  ticks = null;
}

document.addEventListener("visibilitychange", () => {
  refresh();
  listen();
});
// Left pages are kept for "back", with their connections.
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) listen();
});
listen();
