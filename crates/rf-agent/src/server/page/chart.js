// A chart over time: stacked bars for counts, lines for values.
//
// It is drawn to the width that it has, read with the mouse or the arrow keys, and stands as a table besides.

import { h, say, svg } from "./dom.js";
import * as format from "./format.js";

const HEIGHT = 300;
const MARGIN = { top: 12, right: 14, bottom: 26, left: 56 };
/** A line breaks where nothing came for so many steps. */
const GAP = 3;
/** As many are in page.css. */
const COLOURS = 8;
const SHADES = 5;
/** Distances of ticks that people can count in, in seconds. */
const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000];

/** `data`: { from, to, step, kind: "bars" | "lines", series: [{ name, mood?, points: Map(time -> value) }] } */
export class Chart {
  #data;
  #at = -1;
  #watch;

  constructor(data, label) {
    this.#data = data;
    this.times = slots(data);
    this.colours = colours(data.series);
    this.plot = h("div", { class: "plot", tabindex: 0, role: "img", "aria-label": `${label}. Arrow keys read the values.` });
    this.readout = h("p", { class: "readout" });
    const names = data.series.map((series, place) =>
      h("li", { title: series.name }, h("span", { class: `swatch ${this.colours[place]}`, "aria-hidden": "true" }), series.name));
    this.element = h("figure", { class: "chart" }, h("ul", { class: "legend" }, names), this.plot, this.readout, this.#table());
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    this.plot.addEventListener("pointermove", (event) => this.#point(event));
    this.plot.addEventListener("pointerleave", () => this.#read(-1));
    this.#watch = new ResizeObserver(() => this.#draw());
    this.#watch.observe(this.plot);
    this.#read(-1);
  }

  leave() {
    this.#watch.disconnect();
  }

  #draw() {
    const width = Math.max(this.plot.clientWidth, 240);
    const { from, to, kind, series } = this.#data;
    const [low, high, ticks] = scale(this.#data, this.times);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    this.x = (time) => MARGIN.left + ((time - from) / (to - from || 1)) * inner.width;
    const y = (value) => MARGIN.top + (1 - (value - low) / (high - low || 1)) * inner.height;
    const grid = ticks.map((value) => svg("g", {},
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "axis", x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, format.short(value))));
    const [apart, marks] = timeTicks(from, to, inner.width / 90);
    const axis = marks.map((time) =>
      svg("text", { class: "axis", x: this.x(time), y: HEIGHT - 6, "text-anchor": "middle" }, format.tick(time, apart)));
    const marksOf = kind === "bars" ? this.#bars(y, inner) : series.map((one, place) => this.#line(one, place, y));
    this.cross = svg("line", { class: "cross", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
    this.plot.replaceChildren(svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
      grid, axis, marksOf, this.cross));
  }

  #bars(y, inner) {
    const { from, to, step, series } = this.#data;
    const width = Math.max((step / (to - from || 1)) * inner.width - 1, 1);
    const bars = [];
    for (const time of this.times) {
      let sum = 0;
      series.forEach((one, place) => {
        const value = one.points.get(time);
        if (!value) return;
        const top = y(sum + value);
        // A seam, where there is room for it, parts neighbours of like colours.
        const whole = y(sum) - top;
        const height = whole > 4 ? whole - 1 : Math.max(whole, 0.5);
        bars.push(svg("rect", { class: this.colours[place], x: this.x(time), y: top, width, height }));
        sum += value;
      });
    }
    return bars;
  }

  /** A line breaks where a value is missing. */
  #line(series, place, y) {
    let path = "";
    let isDown = false;
    const dots = [];
    this.times.forEach((time, index) => {
      const value = series.points.get(time);
      if (time - this.times[index - 1] > GAP * this.#data.step) isDown = false;
      if (value === undefined || value === null) {
        isDown = false;
        return;
      }
      path += `${isDown ? "L" : "M"}${this.x(time).toFixed(1)} ${y(value).toFixed(1)}`;
      const next = series.points.get(this.times[index + 1]);
      // A value between two gaps would be a line of no length.
      if (!isDown && (next === undefined || next === null)) {
        dots.push(svg("circle", { class: this.colours[place], cx: this.x(time), cy: y(value), r: 2 }));
      }
      isDown = true;
    });
    return svg("g", {}, svg("path", { class: `line ${this.colours[place]}`, d: path }), dots);
  }

  #point(event) {
    if (!this.x || this.times.length === 0) return;
    const box = this.plot.getBoundingClientRect();
    const { from, to, kind, step } = this.#data;
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    const time = from + share * (to - from) - (kind === "bars" ? step / 2 : 0);
    let nearest = 0;
    this.times.forEach((known, place) => {
      if (Math.abs(known - time) < Math.abs(this.times[nearest] - time)) nearest = place;
    });
    this.#read(nearest);
  }

  #key(event) {
    const last = this.times.length - 1;
    const at = this.#at;
    const moves = { ArrowLeft: at < 0 ? last : at - 1, ArrowRight: at + 1, Home: 0, End: last };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#read(Math.min(Math.max(moves[event.key], 0), last));
    say(this.readout.textContent);
  }

  /** Tells the values of a moment; of none, where to point. */
  #read(at) {
    this.#at = at;
    const time = this.times[at];
    this.cross?.setAttribute("visibility", time === undefined ? "hidden" : "visible");
    if (time === undefined) {
      this.readout.replaceChildren(this.times.length ? "Point at the chart, or use the arrow keys in it." : "");
      return;
    }
    const { kind, step, series } = this.#data;
    const x = this.x(time + (kind === "bars" ? step / 2 : 0));
    this.cross?.setAttribute("x1", x);
    this.cross?.setAttribute("x2", x);
    const values = series.filter((one) => one.points.has(time)).map((one) => [one.name, one.points.get(time)]);
    this.readout.replaceChildren(h("b", {}, format.time(time)),
      ...values.slice(0, 12).map(([name, value]) => h("span", {}, ` · ${name} `, h("b", {}, String(value ?? "–")))));
  }

  #table() {
    const { series } = this.#data;
    const body = h("tbody");
    const details = h("details", { class: "as-table" }, h("summary", {}, "As a table"),
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "time"), series.map((one) => h("th", { scope: "col", class: "number" }, one.name)))), body)));
    details.addEventListener("toggle", () => {
      if (!details.open || body.childElementCount) return;
      body.append(...this.times.map((time) => h("tr", {}, h("td", {}, format.time(time)),
        series.map((one) => h("td", { class: "number" }, String(one.points.get(time) ?? ""))))));
    });
    return details;
  }
}

/** Classes of each series: moods have their colour, in a shade for each; others take turns, dashed the second time. */
function colours(series) {
  const used = {};
  return series.map(({ mood }) => {
    const key = mood || "";
    const turn = used[key] = (used[key] ?? -1) + 1;
    const most = key ? SHADES : COLOURS;
    const again = turn >= most ? " again" : "";
    return `${key ? `mood-${key} shade-` : "c"}${turn % most}${again}`;
  });
}

/** The moments at which there is something, in order. */
function slots({ series }) {
  const times = new Set(series.flatMap((one) => [...one.points.keys()]));
  return [...times].sort((a, b) => a - b);
}

/** Least and greatest of the axis, and its ticks. */
function scale({ kind, series }, times) {
  const values = kind === "bars"
    ? times.map((time) => series.reduce((sum, one) => sum + (one.points.get(time) ?? 0), 0))
    : series.flatMap((one) => [...one.points.values()].filter((value) => typeof value === "number"));
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 1];
  // From zero, unless that would flatten what there is to see.
  if (kind === "bars" || (low > 0 && low < high * 0.7)) low = 0;
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const apart = power * [1, 2, 2.5, 5, 10].find((step) => step * power >= rough);
  const first = Math.floor(low / apart);
  const ticks = [];
  // All digits are kept: rounded, the ticks of large values that differ little would be one, and the values far from it.
  while (ticks.length < 12 && !(ticks.at(-1) >= high)) ticks.push((first + ticks.length) * apart);
  return [ticks[0], ticks.at(-1), ticks];
}

/** Ticks at round local times, at most so many: how far apart, and where. */
function timeTicks(from, to, most) {
  const apart = STEPS.find((step) => (to - from) / step <= Math.max(most, 2)) ?? STEPS.at(-1);
  const offset = (time) => new Date(time * 1000).getTimezoneOffset() * 60;
  const begin = offset(from);
  const first = Math.ceil((from - begin) / apart) * apart + begin;
  const ticks = [];
  for (let count = 0; first + count * apart <= to && count < 50; count += 1) {
    const time = first + count * apart;
    // Where clocks are changed, by an hour as a rule, what is further apart would be round no more.
    const moved = apart > 3600 ? time + offset(time) - begin : time;
    if (moved >= from && moved <= to) ticks.push(moved);
  }
  return [apart, ticks];
}
