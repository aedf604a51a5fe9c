// Values as people read them.

import { stringify } from "./json.js";

const two = (number) => String(number).padStart(2, "0");

/** Unix seconds in the browser's time zone: 2026-11-25 23:05:10. */
export function time(seconds) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return String(seconds);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The same for an axis whose ticks are so many seconds apart. */
export function tick(seconds, apart) {
  const text = time(seconds);
  if (apart >= 86400) return text.slice(5, 10);
  return apart < 60 ? text.slice(11) : text.slice(11, 16);
}

/** `3 min ago` */
export function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (!(past >= 1)) return "now";
  return `${span(past)} ago`;
}

/** `3 min` */
export function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, name] = units.find(([size]) => seconds >= size) ?? units.at(-1);
  return `${Math.floor(seconds / size)} ${name}`;
}

/** A number short enough for an axis: 1.2k, 35M, 0.004. */
export function short(number) {
  const size = Math.abs(number);
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return `${trim(number / unit)}${name}`;
  }
  return trim(number);
}

function trim(number) {
  return String(Number(number.toPrecision(3)));
}

/** Whether a column holds Unix seconds. */
export const isTime = (column) => column === "timestamp" || column === "_rpf_last_updated_idx";

export const isNumber = (value) => typeof value === "number" || typeof value === "bigint";

/** One value of a row as text. */
export function value(column, value) {
  if (value === null || value === undefined) return "";
  if (isTime(column) && typeof value === "number") return time(value);
  return typeof value === "object" ? stringify(value) : String(value);
}

/** How well a status is, for its colour: `ok`, `bad`, `warn` or nothing. */
export function mood(status) {
  const text = String(status).toLowerCase();
  if (["ok", "up", "success", "succeeded", "healthy", "good", "passed", "done", "paid"].includes(text)) return "ok";
  if (/^(bad|down|error|err|fail|failed|failure|critical|dead|unhealthy|missing)$/.test(text)) return "bad";
  if (/^(warn|warning|degraded|pending|late|retry|unknown|silenced)$/.test(text)) return "warn";
  return "";
}
