// Which columns of a table are seen, and in which order. What somebody chose stays in this browser.

import { h } from "./dom.js";

/** More would be a page that nobody reads; a row's own page has all. */
const SEEN_AT_FIRST = 12;

const isOurs = (name) => name.startsWith("_rpf_");

/** Time first, then the key, then the rest as the table has it; our own bookkeeping last. */
export function ordered(columns) {
  const rank = (name) => (name === "timestamp" ? 0 : name === "id" || name === "serie_name" ? 1 : isOurs(name) ? 3 : 2);
  return columns.map((name, place) => [rank(name), place, name]).sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map(([, , name]) => name);
}

export class Choice {
  #key;
  #hidden;

  constructor(sink, table, columns) {
    this.#key = `columns:${sink}/${table}`;
    this.all = ordered(columns);
    const kept = read(this.#key);
    this.#hidden = new Set(kept ?? this.all.filter((name, place) => isOurs(name) || place >= SEEN_AT_FIRST));
  }

  get seen() {
    const seen = this.all.filter((name) => !this.#hidden.has(name));
    return seen.length ? seen : this.all.slice(0, 1);
  }

  /** A menu to choose with; `changed` is called after each choice. */
  menu(changed) {
    const summary = h("summary", {}, this.#label());
    const boxes = this.all.map((name) => {
      const box = h("input", { type: "checkbox", checked: !this.#hidden.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) this.#hidden.delete(name);
        else this.#hidden.add(name);
        write(this.#key, [...this.#hidden]);
        summary.textContent = this.#label();
        changed();
      });
      return h("label", {}, box, " ", name);
    });
    const menu = h("details", { class: "menu" }, summary, h("div", { class: "menu-body" }, boxes));
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.stopPropagation();
      menu.open = false;
      summary.focus();
    });
    menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
    });
    return menu;
  }

  #label() {
    return `Columns ${this.seen.length}/${this.all.length}`;
  }
}

function read(key) {
  try {
    const kept = JSON.parse(localStorage.getItem(key));
    return Array.isArray(kept) ? kept : null;
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: the choice holds until the page is left.
  }
}
