// Series of a table over time: all of them small, and one of them large.

import { Newest, get } from "./api.js";
import { Chart } from "./chart.js";
import { h, say, select, svg } from "./dom.js";
import { range, secondsOf } from "./filters.js";
import * as format from "./format.js";
import { go, here, link } from "./route.js";

/** Points of a chart, and of a small one. */
const POINTS = 300;
const FEW_POINTS = 60;
/** Lines of a chart that can be told apart; the rest is left out, and it says so. */
const MOST_LINES = 16;
/** Series that are shown small at once. */
const MOST_SMALL = 60;
/** Names of them, as they stand in a URL, are so long together: a server, and a proxy before it, take no head of any length. */
const MOST_LETTERS = 6000;
const AGGREGATES = ["avg", "min", "max", "sum", "count", "last", "rate", "p95"];

export class Series {
  #newest = new Newest();
  #chart;

  constructor(place, tabs) {
    this.place = place;
    this.tools = h("div", { class: "tools" });
    this.note = h("p", { class: "note" });
    this.plot = h("div");
    this.element = h("section", {}, tabs, this.tools, this.note, this.plot);
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

  /** The route with these changes to the URL's pairs, see `here`; an empty value takes its pair away. */
  #with(changes) {
    const pairs = Object.entries({ ...Object.fromEntries(here().pairs), ...changes });
    return { ...this.place, pairs: pairs.filter(([, value]) => value !== "") };
  }

  async load() {
    const signal = this.#newest.next();
    const { sink, table, pairs } = this.place;
    this.element.setAttribute("aria-busy", "true");
    try {
      const known = await get([sink, "series", table], [], signal);
      const names = [...new Set(known.map((one) => one.serie_name))];
      const envs = [...new Set(known.map((one) => one.env_name))];
      this.#drawTools(names, envs);
      const serie = pairs.get(".series");
      const asked = [["points", String(serie ? POINTS : FEW_POINTS)], ...this.#span(known)];
      if (serie) asked.push(["serie", serie]);
      else asked.push(...small(names).map((name) => ["serie", name]));
      if (pairs.has(".env")) asked.push(["env", pairs.get(".env")]);
      if (pairs.has(".aggregate")) asked.push(["aggregate", pairs.get(".aggregate")]);
      // The latest value of a gauge is told as it is, not as the mean of a step.
      else if (!serie && /^(ts_)?gauge_/.test(table)) asked.push(["aggregate", "avg,last"]);
      const rows = await get([sink, "range", table], asked, signal);
      if (serie) this.#showOne(rows, serie, asked);
      else this.#showAll(rows, names, known);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.replaceChildren(error.message);
      this.note.classList.add("wrong");
      say(error.message);
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  /** `start` and `stop` as pairs: the time that is chosen, as far as there is anything in it. */
  #span(known) {
    const now = Math.ceil(Date.now() / 1000);
    const seconds = secondsOf(this.place.pairs.get(".span") ?? "24h");
    const first = Math.min(now - 1, ...known.map((one) => one.first));
    if (seconds) return [["start", String(Math.max(now - seconds, first))], ["stop", String(now)]];
    return [["start", String(first)], ["stop", String(Math.max(first + 1, ...known.map((one) => one.last)))]];
  }

  #drawTools(names, envs) {
    const { pairs } = this.place;
    const choose = (label, name, options) => {
      const made = select({ "aria-label": label, name }, options, pairs.get(`.${name}`) ?? "");
      made.addEventListener("change", () => go(this.#with({ [`.${name}`]: made.value })));
      return made;
    };
    const span = pairs.get(".span") ?? "24h";
    this.tools.replaceChildren(
      h("div", { class: "filter" },
        choose("Series", "series", [["", `all ${names.length} series`], ...names.map((name) => [name, name])]),
        (envs.length > 1 || pairs.has(".env")) && choose("Environment", "env", [["", "all environments"], ...envs.map((env) => [env, env || "no environment"])]),
        choose("Aggregate", "aggregate", [["", "usual aggregate"], ...AGGREGATES.map((name) => [name, name])])),
      h("div", { class: "right" },
        range(span === "all" ? "" : span, "all of the time", (value) => go(this.#with({ ".span": value || "all" }))),
        h("button", { type: "button", title: "r", onclick: () => this.load() }, "Refresh")));
  }

  #tell(text) {
    this.note.classList.remove("wrong");
    this.note.replaceChildren(text);
    say(text);
  }

  #showOne(rows, serie, asked) {
    const pair = (name) => Number(asked.find(([known]) => known === name)[1]);
    const isSnapshot = rows.length > 0 && "state" in rows[0];
    const name = (row) => (isSnapshot ? format.value("", row.state) || "nothing" : row.env_name || serie);
    const lines = grouped(rows, name);
    const left = lines.length - MOST_LINES;
    this.#tell(rows.length === 0 ? "No values in this time." : `${rows.length.toLocaleString("en")} points${left > 0 ? `, ${left} lines are left out` : ""}`);
    this.#chart?.leave();
    if (rows.length === 0) return this.plot.replaceChildren();
    const times = rows.map((row) => row.timestamp);
    const step = shortest(times);
    const [first, last] = bounds(times);
    const [from, to] = [Math.min(pair("start"), first), Math.max(pair("stop"), last + (isSnapshot ? step : 0))];
    this.#chart = new Chart({ from, to, step, kind: isSnapshot ? "bars" : "lines", series: lines.slice(0, MOST_LINES) }, serie);
    this.plot.replaceChildren(this.#chart.element);
  }

  /** A card for each series, with its latest value and a line for each environment. */
  #showAll(rows, names, known) {
    const shown = small(names);
    const left = names.length - shown.length;
    this.#tell(names.length === 0 ? "No series yet." : left > 0 ? `${left} further series are in the list above.` : "");
    const cards = shown.map((serie) => {
      const own = rows.filter((row) => row.serie_name === serie);
      const lines = grouped(own, (row) => ("state" in row ? format.value("", row.state) : row.env_name));
      const last = own.reduce((latest, row) => (latest && latest.timestamp > row.timestamp ? latest : row), undefined);
      const newest = Math.max(...known.filter((one) => one.serie_name === serie).map((one) => one.last));
      const value = last?.last ?? last?.value;
      const told = last === undefined ? "nothing" : "state" in last ? format.value("", last.state) : value === undefined || value === null ? "–" : format.short(value);
      return h("li", {}, h("a", { class: "card", href: link(this.#with({ ".series": serie })) },
        h("span", { class: "line" }, h("b", { title: serie }, serie), h("span", { class: "latest" }, told)),
        spark(lines),
        h("small", {}, last === undefined ? "no values in this time" : format.ago(newest))));
    });
    this.plot.replaceChildren(h("ul", { class: "cards" }, cards));
  }
}

/** The series that are shown small. */
function small(names) {
  let left = MOST_LETTERS;
  return names.slice(0, MOST_SMALL).filter((name) => {
    left -= new URLSearchParams([["serie", name]]).toString().length;
    return left >= 0;
  });
}

/** Least and greatest of any number of values: as arguments of one call they may be too many for a browser. */
function bounds(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Rows as lines: `{ name, mood, points }` each. */
function grouped(rows, name) {
  const lines = new Map();
  for (const row of rows) {
    const told = name(row);
    if (!lines.has(told)) lines.set(told, { name: told, mood: "state" in row ? format.mood(told) : "", points: new Map() });
    lines.get(told).points.set(row.timestamp, row.value ?? row.avg);
  }
  return [...lines.values()];
}

/** The shortest time between two of them. */
function shortest(times) {
  const sorted = [...new Set(times)].sort((a, b) => a - b);
  let step = Infinity;
  sorted.forEach((time, place) => place > 0 && (step = Math.min(step, time - sorted[place - 1])));
  return Number.isFinite(step) ? step : 60;
}

/** A chart as small as a line of text, without axes. */
function spark(lines) {
  const all = lines.flatMap((line) => [...line.points]).filter(([, value]) => typeof value === "number");
  const [width, height] = [200, 44];
  const [from, to] = bounds(all.map(([time]) => time));
  const [low, high] = bounds(all.map(([, value]) => value));
  const x = (time) => 1 + ((time - from) / (to - from || 1)) * (width - 2);
  const y = (value) => height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  const paths = lines.slice(0, MOST_LINES).map((line, place) => {
    const points = [...line.points].filter(([, value]) => typeof value === "number").map(([time, value]) => `${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
    const d = points.length === 1 ? `M${points[0]}h1` : `M${points.join("L")}`;
    return points.length > 0 && svg("path", { class: `line c${place % 8}`, d });
  });
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, paths);
}
