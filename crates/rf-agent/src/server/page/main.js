// The frame: sinks and their tables on the left, what is chosen on the right. Each view is an object with `element`,
// `leave()` and, for its keys, `key(name)`.

import { Alerts } from "./alerts.js";
import { get } from "./api.js";
import { Counts } from "./counts.js";
import { h, say } from "./dom.js";
import { isTyping, showKeys } from "./keys.js";
import { here, link } from "./route.js";
import { Rows } from "./rows.js";
import { Series } from "./series.js";

/** More names than this get a field to search them. */
const MANY_TABLES = 12;
/** What sinks do that have nothing to be looked at here; a type that is not known is a program of the user's own. */
const DOES = {
  http: "sends events on",
  notification: "tells people",
  file: "writes events to files",
  log: "writes events to the log, or to a file of its own",
};
const OTHERS_DO = "hands events to a program";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let sinks = [];
const wide = matchMedia("(min-width: 761px)");
let view;
/** Tells a view that took its time from the one that is wanted now. */
let turn = 0;

function show(element, next) {
  view?.leave?.();
  view = next;
  main.replaceChildren(element);
}

const message = (title, ...text) => h("section", { class: "message" }, h("h2", {}, title), text.map((line) => h("p", {}, line)));

/** A sink's name, and smaller beside it its id where that is another one. */
const named = (sink) => [sink.name, sink.id !== sink.name && [" ", h("small", { class: "id" }, sink.id)]].flat();

/** Of a time series there is a view of its latest values. */
const isView = (table) => /^v_.*_latest$/.test(table);

/** Views of a table: name in the route, text, whether the table can be seen so. */
function viewsOf(place, sink, columns) {
  if (sink.type === "time_series") return isView(place.table) ? [["", "Rows", Rows]] : [["", "Chart", Series], ["rows", "Rows", Rows]];
  const hasTime = columns.includes("timestamp");
  return [["", "Rows", Rows], ...(hasTime ? [["chart", "Chart", Counts]] : [])];
}

function tabsOf(place, sink, views) {
  const tabs = views.map(([name, text]) =>
    h("a", { href: link({ ...place, view: name, pairs: [] }), "aria-current": place.view === name && "page" }, text));
  return h("header", { class: "title" },
    h("h1", {}, h("span", { class: "of" }, named(sink), " / "), place.table),
    h("nav", { class: "tabs", "aria-label": "Views" }, tabs));
}

async function showTable(place, sink, mine) {
  const columns = await get([place.sink, "columns", place.table]);
  if (mine !== turn) return;
  const views = viewsOf(place, sink, columns);
  const [, , View] = views.find(([name]) => name === place.view) ?? views[0];
  const tabs = tabsOf(place, sink, views);
  const made = View === Rows ? new Rows(place, columns, tabs) : new View(place, tabs, columns);
  show(made.element, made);
}

function showSinks() {
  if (sinks.length === 0) return show(message("No sinks", "This player has no sinks in its file."));
  const cards = sinks.map((sink) => h("li", {}, h("a", { href: link({ sink: sink.id }), class: sink.api ? "card" : "card off" },
    h("b", { title: sink.name }, sink.name), h("span", { class: "kind" }, sink.type),
    h("small", {}, sink.api ? `at /${sink.id}/` : DOES[sink.type] ?? OTHERS_DO))));
  show(h("section", {}, h("header", { class: "title" }, h("h1", {}, "Sinks")), h("ul", { class: "cards" }, cards)));
}

async function draw() {
  const mine = ++turn;
  const place = here();
  const sink = sinks.find((known) => known.id === place.sink);
  document.title = [place.table, sink?.name ?? place.sink, "ReplayForge player"].filter(Boolean).join(" · ");
  try {
    const tables = sink?.api ? await get([sink.id, "list"]) : [];
    if (mine !== turn) return;
    drawNav(place, sink, tables);
    if (!place.sink) showSinks();
    else if (!sink) show(message("No such sink", `No sink has the id ${place.sink}.`));
    else if (!sink.api) show(message(named(sink), `A sink of type ${sink.type} ${DOES[sink.type] ?? OTHERS_DO}: there is nothing to look at here.`));
    else if (place.table) await showTable(place, sink, mine);
    else if (sink.type === "alert") showAlerts(place, sink);
    else showTables(place, sink, tables);
  } catch (error) {
    if (mine !== turn) return;
    show(message("That did not work", error.message, h("button", { type: "button", onclick: draw }, "Try again")));
    say(error.message);
  }
}

function showAlerts(place, sink) {
  const made = new Alerts(place, named(sink));
  show(made.element, made);
}

function showTables(place, sink, tables) {
  const own = tables.filter((table) => !isView(table));
  if (own.length === 1) return location.replace(link({ sink: place.sink, table: own[0] }));
  const items = tables.map((table) => h("li", {}, h("a", { class: "card", href: link({ sink: place.sink, table }) }, h("b", { title: table }, table))));
  const title = h("header", { class: "title" }, h("h1", {}, named(sink)));
  show(h("section", {}, title, tables.length
    ? h("ul", { class: "cards" }, items)
    : h("p", { class: "empty" }, "No tables yet: they appear with the first events.")));
}

function drawNav(place, sink, tables) {
  const items = sinks.map((one) => {
    const isHere = one.id === sink?.id;
    return h("li", {},
      h("a", { href: link({ sink: one.id }), class: one.api ? "" : "off", "aria-current": isHere && !place.table && "page" },
        h("span", { class: "name", title: one.name }, named(one)), h("span", { class: "kind" }, one.type)),
      isHere && tables.length > 0 && tableList(place, tables));
  });
  // On a wide screen there is room for all of it; on a phone it opens when it is asked to.
  const open = wide.matches || (nav.querySelector("details")?.open && place.sink !== "" && !place.table);
  const where = [sink?.name ?? "Sinks", place.table].filter(Boolean).join(" / ");
  nav.replaceChildren(h("details", { open }, h("summary", {}, where), h("ul", { class: "sinks" }, items)));
}

function tableList(place, tables) {
  const items = tables.map((table) => h("li", {},
    h("a", { href: link({ sink: place.sink, table }), "aria-current": table === place.table && "page" }, h("span", { class: "name", title: table }, table))));
  const search = tables.length > MANY_TABLES && h("input", { type: "search", placeholder: `search ${tables.length} tables`, "aria-label": "Search tables" });
  search && search.addEventListener("input", () => {
    items.forEach((item, index) => { item.hidden = !tables[index].toLowerCase().includes(search.value.toLowerCase()); });
  });
  return [search, h("ul", { class: "tables" }, items)];
}

addEventListener("hashchange", draw);
wide.addEventListener("change", draw);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape" && isTyping(event.target)) return event.target.blur();
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") showKeys();
  else if (!view?.key?.(event.key)) return;
  event.preventDefault();
});
document.getElementById("help").addEventListener("click", showKeys);

try {
  sinks = await get(["sink", "list"]);
  await draw();
} catch (error) {
  show(message("The server does not answer", error.message, "Load the page again once it does."));
}
