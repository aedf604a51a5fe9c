// The keyboard, and the dialog that tells it.

import { h } from "./dom.js";

const KEYS = [
  ["↓ ↑ or j k", "from row to row"],
  ["Enter", "open the row"],
  ["n p", "next and previous page"],
  ["/", "filter"],
  ["r", "refresh"],
  ["← →", "in a chart: read the values"],
  ["Esc", "close, or leave a field"],
  ["?", "this list"],
];

/** Whether keys belong to a field. */
export const isTyping = (element) => element.matches?.("input:not([type=checkbox]), select, textarea") ?? false;

export function showKeys() {
  const lines = KEYS.map(([keys, text]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, text)));
  const dialog = h("dialog", { class: "keys", "aria-label": "Keyboard" },
    h("header", {}, h("h2", {}, "Keyboard"), h("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("table", {}, h("tbody", {}, lines)));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
