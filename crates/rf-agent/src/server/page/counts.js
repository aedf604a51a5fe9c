// How many rows there were when, by status: the chart of a table of rows.

import { Newest, get } from "./api.js";
import { Chart } from "./chart.js";
import { h, say } from "./dom.js";
import { range, secondsOf } from "./filters.js";
import * as format from "./format.js";
import { go } from "./route.js";

/** Bars of a chart, about. */
const BARS = 120;
const BUCKETS = [10, 60, 300, 900, 3600, 10800, 21600, 86400, 604800, 2592000];
/** Statuses with a colour of their own; the rest is one. */
const MOST = 7;

export class Counts {
  #newest = new Newest();
  #chart;

  constructor(place, tabs) {
    this.place = place;
    this.plot = h("div");
    this.note = h("p", { class: "note" });
    const chosen = place.pairs.get(".span") ?? "24h";
    const pick = range(chosen === "all" ? "" : chosen, "all of the time", (span) => go({ ...place, pairs: [[".span", span || "all"]] }));
    this.element = h("section", {}, tabs,
      h("div", { class: "tools" }, h("h2", {}, "Rows over time"),
        h("div", { class: "right" }, pick, h("button", { type: "button", title: "r", onclick: () => this.load() }, "Refresh"))),
      this.note, this.plot);
    this.load();
  }

  leave() {
    this.#newest.stop();
    this.#chart?.leave();
  }

  key(name) {
    if (name !== "r") return false;
    this.load();
    return true;
  }

  async load() {
    const signal = this.#newest.next();
    const { sink, table, pairs } = this.place;
    this.element.setAttribute("aria-busy", "true");
    try {
      const now = Math.ceil(Date.now() / 1000);
      const [begin, to] = await this.#span(pairs.get(".span") ?? "24h", now, signal);
      const step = BUCKETS.find((size) => (to - begin) / size <= BARS) ?? BUCKETS.at(-1);
      // Bars begin at whole steps; a part of the first one would look like few rows.
      const from = Math.floor(begin / step) * step;
      const asked = [["table", table], ["start_time", String(from)], ["stop_time", String(to)], ["range_time", `${step}s`]];
      this.#show(await get([sink, "time-analytics", ""], asked, signal), from, to, step);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.replaceChildren(error.message);
      this.note.classList.add("wrong");
      say(error.message);
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  /** Of all of the time: from the oldest row to the newest. */
  async #span(name, now, signal) {
    const seconds = secondsOf(name);
    if (seconds) return [now - seconds, now];
    const { sink, table } = this.place;
    const end = async (direction) => {
      const rows = await get([sink, "query-table", table], [["order", `timestamp:${direction}`], ["limit", "1"], ["timestamp_null", "false"]], signal);
      return rows[0]?.timestamp ?? now;
    };
    const [from, to] = [await end("asc"), await end("desc")];
    return [Math.floor(from), Math.max(Math.ceil(to) + 1, Math.floor(from) + 60)];
  }

  #show(rows, from, to, step) {
    this.note.classList.remove("wrong");
    const series = grouped(rows);
    const total = rows.reduce((sum, row) => sum + row.count, 0);
    const text = total === 0 ? "No rows in this time." : `${total.toLocaleString("en")} rows, a bar is ${format.span(step)}`;
    this.note.replaceChildren(text);
    say(text);
    this.#chart?.leave();
    if (total === 0) return this.plot.replaceChildren();
    this.#chart = new Chart({ from, to: Math.max(to, from + step), step, kind: "bars", series }, "Rows over time");
    this.plot.replaceChildren(this.#chart.element);
  }
}

/** Counts by status as series: what is well at the bottom, what is not on top. */
function grouped(rows) {
  const name = (row) => ("status" in row ? (row.status === null ? "no status" : String(row.status)) : "rows");
  const totals = new Map();
  for (const row of rows) totals.set(name(row), (totals.get(name(row)) ?? 0) + row.count);
  const names = [...totals].sort((a, b) => b[1] - a[1]).map(([known]) => known);
  const own = new Set(names.length > MOST + 1 ? names.slice(0, MOST) : names);
  const series = new Map();
  for (const row of rows) {
    const told = own.has(name(row)) ? name(row) : "others";
    if (!series.has(told)) series.set(told, { name: told, mood: format.mood(told), points: new Map() });
    const { points } = series.get(told);
    points.set(row.time_bucket, (points.get(row.time_bucket) ?? 0) + row.count);
  }
  const rank = { ok: 0, "": 1, warn: 2, bad: 3 };
  return [...series.values()].sort((a, b) => rank[a.mood] - rank[b.mood]);
}
