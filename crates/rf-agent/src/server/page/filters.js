// Conditions on columns, as the sinks' API knows them: a column's name with a suffix.

import { h, select } from "./dom.js";
import { here } from "./route.js";

/** Suffix, sign. */
const TESTS = [
  ["_contains", "contains"],
  ["", "is"],
  ["_ne", "is not"],
  ["_gt", ">"],
  ["_gte", "≥"],
  ["_lt", "<"],
  ["_lte", "≤"],
  ["_null", "is missing"],
];

/** Parameters of the API's own: of columns that are called so, "is" is asked by another name. */
const RESERVED = ["limit", "after", "format", "order"];

/** The name of the condition that a column is a value. */
export const is = (column) => (RESERVED.includes(column) ? `${column}_eq` : column);

/** Whether a name in a route is the page's own and no condition: no column's name holds a dot, and `order` is none in the API. */
const isOwn = (name) => name === "order" || name.startsWith(".");

/** Time ranges: name in the route, text, seconds. */
export const RANGES = [
  ["15m", "15 minutes", 900],
  ["1h", "1 hour", 3600],
  ["6h", "6 hours", 21600],
  ["24h", "24 hours", 86400],
  ["7d", "7 days", 604800],
  ["30d", "30 days", 2592000],
];

/** `[name, value]` of the conditions of a route, as they stand there. */
const written = (pairs) => [...pairs].filter(([name]) => !isOwn(name));

/** The same, as the API is asked. */
export const conditions = (pairs) => written(pairs).map(([name, value]) => [is(name), value]);

/** A condition in words: column, sign, value. */
function words([name, value], columns) {
  if (columns.includes(name)) return [name, "is", value];
  for (const [suffix, sign] of [...TESTS, ["_eq", "is"]]) {
    const column = name.slice(0, name.length - suffix.length);
    if (suffix && name.endsWith(suffix) && columns.includes(column)) {
      return suffix === "_null" ? [column, value === "false" ? "is there" : sign, ""] : [column, sign, value];
    }
  }
  return [name, "is", value];
}

/** The pairs of the URL, all but this one. */
const without = (name, value) => [...here().pairs].filter(([n, v]) => n !== name || v !== value);

/** The bar: what is filtered, and a form for more. `change(pairs)` gets the new pairs of the route. */
export function bar(columns, pairs, change) {
  const chips = written(pairs).map(([name, value]) => {
    const [column, sign, text] = words([name, value], columns);
    const remove = () => change(without(name, value));
    const label = `${column} ${sign} ${text}`.trim();
    return h("li", { class: "chip" }, h("b", {}, column), ` ${sign} `, h("q", {}, text),
      h("button", { type: "button", "aria-label": `Remove: ${label}`, onclick: remove }, "×"));
  });
  const column = select({ name: "column", "aria-label": "Column" }, columns.map((name) => [name, name]),
    columns.find((name) => !name.startsWith("_") && name !== "timestamp" && name !== "id"));
  const test = select({ name: "test", "aria-label": "Condition" }, TESTS, "_contains");
  const value = h("input", { name: "value", type: "search", placeholder: "value, then Enter", "aria-label": "Value",
    autocomplete: "off", spellcheck: "false" });
  test.addEventListener("change", () => { value.disabled = test.value === "_null"; });
  const add = (event) => {
    event.preventDefault();
    if (!value.value && test.value !== "_null" && test.value !== "") return value.focus();
    const name = test.value === "" ? is(column.value) : column.value + test.value;
    const pair = [name, test.value === "_null" ? "true" : value.value];
    change([...without(...pair), pair]);
  };
  return h("div", { class: "filters" },
    h("form", { class: "filter", onsubmit: add, "aria-label": "Filter" }, column, test, value,
      h("button", {}, "Filter")),
    chips.length > 0 && h("ul", { class: "chips", "aria-label": "Filters" }, chips));
}

/** The choice of a time range; `all` is what no range is called. */
export function range(chosen, all, change) {
  const options = [...(all ? [["", all]] : []), ...RANGES.map(([name, text]) => [name, `last ${text}`])];
  const made = select({ "aria-label": "Time range", name: "range" }, options, chosen);
  made.addEventListener("change", () => change(made.value));
  return made;
}

/** Seconds of a range by its name. */
export const secondsOf = (name) => RANGES.find(([known]) => known === name)?.[2];
