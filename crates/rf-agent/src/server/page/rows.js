// Rows of a table: filtered, sorted, a page at a time.
//
// A page is told by the row that it begins behind (or ends before), never by a number of rows to skip: the ten-thousandth
// page costs as much as the first.

import { Newest, Refused, getExact, url } from "./api.js";
import { Choice } from "./columns.js";
import { open } from "./detail.js";
import { PRESSED_MS, h, isPressed, say } from "./dom.js";
import { bar, conditions, is, range, secondsOf } from "./filters.js";
import * as format from "./format.js";
import { go, here, link } from "./route.js";

const PAGE = 100;
/** As many as the API answers at a time. */
const MOST = 100_000;
const NUMBER = "_rpf_id";
const LIVE_EVERY_MS = 5000;

export class Rows {
  #newest = new Newest();
  #timer;
  #rows = [];
  #isLive = false;

  /** `place` is the route; `columns` those of the table; `tabs` stands above. */
  constructor(place, columns, tabs) {
    this.place = place;
    this.columns = columns;
    this.choice = new Choice(place.sink, place.table, columns);
    this.body = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rows" });
    this.pager = h("nav", { class: "pager", "aria-label": "Pages" });
    this.note = h("p", { class: "note" });
    this.order = h("span");
    this.element = h("section", { class: "rows" }, tabs, this.#tools(), this.note, this.body, this.pager);
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.load();
  }

  leave() {
    this.#newest.stop();
    clearTimeout(this.#timer);
  }

  /** Another route for the same table; pages begin anew unless it says where. */
  #to(pairs) {
    go({ ...this.place, pairs: [...pairs].filter(([, value]) => value !== "") });
  }

  #with(changes, keep = () => true) {
    const kept = [...here().pairs].filter(([name]) => !Object.hasOwn(changes, name) && name !== ".at" && keep(name));
    this.#to([...kept, ...Object.entries(changes)]);
  }

  #tools() {
    const { pairs } = this.place;
    const since = this.columns.includes("timestamp")
      && range(pairs.get(".since") ?? "", "at any time", (value) => this.#with({ ".since": value }));
    this.live = h("button", { type: "button", "aria-pressed": "false", title: "Ask again every 5 seconds",
      onclick: () => this.#setLive(!this.#isLive) }, "Live");
    const download = ["csv", "ndjson"].map((kind) =>
      h("a", { href: url([this.place.sink, "query-table", this.place.table], this.#asked({ format: kind, limit: MOST })),
        download: `${this.place.table}.${kind}` }, kind.toUpperCase()));
    const most = `at most ${MOST.toLocaleString("en")} rows`;
    this.most = h("small", { title: `${most} in this order: filter, or sort another way, for others`, hidden: true }, most);
    return h("div", { class: "tools" },
      bar(this.choice.all, pairs, (changed) => this.#to(changed.filter(([name]) => name !== ".at"))),
      h("div", { class: "right" }, since, this.choice.menu(() => this.#draw()), this.live,
        h("button", { type: "button", title: "r", onclick: () => this.load() }, "Refresh"),
        h("span", { class: "downloads" }, download, this.most)));
  }

  get #order() {
    const [column, direction = "asc"] = (this.place.pairs.get("order") || this.#defaultOrder).split(/:(?=asc$|desc$)/);
    return { column, direction };
  }

  get #defaultOrder() {
    if (this.columns.includes(NUMBER)) return `${NUMBER}:desc`;
    return this.columns.includes("timestamp") ? "timestamp:desc" : "";
  }

  /** The pairs that the sink is asked with, for a page in the direction that is read. */
  #asked(more, isBackwards = false) {
    const { column, direction } = this.#order;
    const pairs = conditions(this.place.pairs);
    const since = secondsOf(this.place.pairs.get(".since"));
    if (since) pairs.push(["timestamp_gte", String(Math.floor(Date.now() / 1000) - since)]);
    if (column) pairs.push(["order", `${column}:${isBackwards === (direction === "asc") ? "desc" : "asc"}`]);
    return [...pairs, ...Object.entries(more)];
  }

  async load() {
    clearTimeout(this.#timer);
    // first, last, after:N or before:N
    const [kind, row] = (this.place.pairs.get(".at") ?? "first").split(":");
    const isBackwards = kind === "last" || kind === "before";
    const cursor = row ? { after: row } : {};
    this.element.setAttribute("aria-busy", "true");
    const started = performance.now();
    try {
      const pairs = this.#asked({ limit: PAGE + 1, ...cursor }, isBackwards);
      const rows = await getExact([this.place.sink, "query-table", this.place.table], pairs, this.#newest.next());
      if (this.#isLive && isPressed(this.element)) return this.#again(PRESSED_MS);
      const more = rows.length > PAGE;
      rows.length = Math.min(rows.length, PAGE);
      this.#rows = isBackwards ? rows.reverse() : rows;
      const hasBefore = isBackwards ? more : kind === "after";
      const hasAfter = isBackwards ? kind === "before" : more;
      this.#page(hasBefore, hasAfter, performance.now() - started);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#fail(error);
    } finally {
      this.element.removeAttribute("aria-busy");
    }
    if (this.#isLive) this.#again(LIVE_EVERY_MS);
  }

  #again(pause) {
    this.#timer = setTimeout(() => this.load(), pause);
  }

  #page(hasBefore, hasAfter, took) {
    this.note.replaceChildren();
    this.note.classList.remove("wrong");
    this.#draw();
    // What is on one page is whole.
    this.most.hidden = !hasBefore && !hasAfter;
    const [first, last] = [this.#rows[0], this.#rows.at(-1)].map((row) => row?.[NUMBER]);
    const canPage = first !== undefined && first !== null;
    const to = (at) => link({ ...this.place, pairs: [...[...this.place.pairs].filter(([name]) => name !== ".at"), ...(at ? [[".at", at]] : [])] });
    const button = (text, label, key, at, isOn) => (isOn
      ? h("a", { href: to(at), class: "button", title: key, "aria-label": label, "data-page": label }, text)
      : h("a", { class: "button off", "aria-disabled": "true", "aria-label": label, "data-page": label }, text));
    const count = this.#rows.length === 0 ? "No rows" : `${this.#rows.length} row${this.#rows.length > 1 ? "s" : ""}`;
    const text = `${count}${hasAfter ? ", more follow" : ""} · ${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;
    this.pager.replaceChildren(
      button("⇤", "First page", "", "", hasBefore),
      button("‹ Previous", "Previous page", "p", `before:${first}`, canPage && hasBefore),
      button("Next ›", "Next page", "n", `after:${last}`, canPage && hasAfter),
      button("⇥", "Last page", "", "last", canPage && hasAfter),
      h("span", { class: "count" }, text, this.order));
    say(text);
  }

  #fail(error) {
    const isGone = error instanceof Refused && error.status === 400 && this.place.pairs.has(".at");
    this.note.replaceChildren(error.message,
      isGone ? h("a", { href: link({ ...this.place, pairs: [...this.place.pairs].filter(([name]) => name !== ".at") }) }, " First page") : "");
    this.note.classList.add("wrong");
    say(error.message);
  }

  #draw() {
    const { column: sorted, direction } = this.#order;
    const seen = this.choice.seen;
    // Where no arrow tells it.
    const order = sorted === NUMBER ? `${direction === "asc" ? "first" : "last"} written first` : `sorted by ${sorted}`;
    this.order.textContent = sorted && !seen.includes(sorted) ? ` · ${order}` : "";
    const numeric = new Set(seen.filter((column) => this.#isNumeric(column)));
    const header = seen.map((column) => {
      const isSorted = column === sorted;
      const next = isSorted && direction === "asc" ? "desc" : "asc";
      const arrow = isSorted ? (direction === "asc" ? " ▲" : " ▼") : "";
      return h("th", { scope: "col", "aria-sort": isSorted && (direction === "asc" ? "ascending" : "descending"),
        class: numeric.has(column) && "number" },
        h("button", { type: "button", onclick: () => this.#with({ order: `${column}:${next}` }) }, column,
          h("span", { "aria-hidden": "true" }, arrow)));
    });
    const rows = this.#rows.map((row, place) => {
      const cells = seen.map((column) => this.#cell(column, row[column], numeric.has(column)));
      return h("tr", { tabindex: place === 0 ? 0 : -1, "data-row": place, onclick: () => this.#open(place) }, cells);
    });
    const table = h("table", {}, h("thead", {}, h("tr", {}, header)), h("tbody", {}, rows));
    const isFiltered = conditions(this.place.pairs).length > 0 || this.place.pairs.get(".since");
    this.body.replaceChildren(this.#rows.length > 0 ? table
      : h("p", { class: "empty" }, isFiltered ? "No row matches." : "This table has no rows."));
  }

  #isNumeric(column) {
    const values = this.#rows.map((row) => row[column]).filter((value) => value !== null && value !== undefined);
    return !format.isTime(column) && values.length > 0 && values.every(format.isNumber);
  }

  #cell(column, value, isNumeric) {
    if (value === null || value === undefined) {
      return h("td", { class: isNumeric ? "none number" : "none" }, h("span", { "aria-label": "nothing" }, "–"));
    }
    const text = format.value(column, value);
    if (column === "status") {
      return h("td", {}, h("span", { class: `pill ${format.mood(value)}` }, text));
    }
    const kind = format.isTime(column) ? "time" : format.isNumber(value) ? "number" : "text";
    return h("td", { class: kind, title: kind === "time" ? format.ago(value) : text.length > 40 ? text.slice(0, 2000) : undefined }, text.slice(0, 300));
  }

  #open(place) {
    const row = this.#rows[place];
    const filter = (column, value) => {
      const pair = value === null ? [`${column}_null`, "true"] : [is(column), String(value)];
      this.#to([...[...here().pairs].filter(([name]) => name !== ".at"), pair]);
    };
    open(row, this.choice.all, { filter, closed: () => this.#row(place)?.focus() });
  }

  #row(place) {
    return this.body.querySelector(`tr[data-row="${place}"]`);
  }

  #setLive(isLive) {
    this.#isLive = isLive;
    this.live.setAttribute("aria-pressed", String(isLive));
    if (isLive) this.load();
    else clearTimeout(this.#timer);
  }

  #key(event) {
    const row = event.target.closest?.("tr[data-row]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Number(row.dataset.row);
    const moves = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: this.#rows.length - 1 };
    if (event.key === "Enter") this.#open(at);
    else if (event.key in moves) this.#row(moves[event.key])?.focus();
    else return;
    event.preventDefault();
  }

  /** Keys of the whole view. */
  key(name) {
    if (name === "r") this.load();
    else if (name === "n" || name === "p") {
      this.pager.querySelector(`[data-page="${name === "n" ? "Next" : "Previous"} page"][href]`)?.click();
    } else if (name === "/") this.element.querySelector(".filter input")?.focus();
    else if (name === "j" || name === "ArrowDown") this.#row(0)?.focus();
    else return false;
    return true;
  }
}
