// One row with all of its values, in full.

import { h } from "./dom.js";
import * as format from "./format.js";
import { parse, stringify } from "./json.js";

/** JSON in a text is shown as such when it is an object or a list. */
function full(column, value) {
  if (value === null || value === undefined) return "";
  let shown = value;
  if (typeof value === "string" && /^\s*[[{]/.test(value)) {
    try {
      shown = parse(value);
    } catch {
      return value;
    }
  }
  return typeof shown === "object" ? stringify(shown, 2) : format.value(column, shown);
}

/** Opens the row; `filter(column, value)` shows the rows that are like it. */
export function open(row, columns, { filter, closed }) {
  const dialog = h("dialog", { class: "detail", "aria-label": "Row" });
  const names = columns.filter((name) => name in row);
  const lines = names.map((column) => {
    const value = row[column];
    const time = format.isTime(column) && typeof value === "number";
    const like = () => {
      dialog.close();
      filter(column, value);
    };
    return h("tr", {}, h("th", { scope: "row" }, column),
      h("td", {}, value === null ? h("span", { class: "none" }, "nothing") : h("pre", {}, full(column, value)),
        time && h("small", {}, `${value} · ${format.ago(value)}`)),
      h("td", {}, h("button", { type: "button", title: "Show the rows with this value",
        "aria-label": `Only rows with this ${column}`, onclick: like }, "Only these")));
  });
  const copy = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(stringify(row, 2));
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "The browser does not allow it";
    }
  } }, "Copy as JSON");
  dialog.append(
    h("header", {}, h("h2", {}, row.id === undefined || row.id === null ? "Row" : String(row.id)), copy,
      h("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, lines))));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
}
