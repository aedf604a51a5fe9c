// How every table of an alert sink is: what is wrong first, with the reason, and silences.

import { Newest, get, order } from "./api.js";
import { PRESSED_MS, h, isPressed, say, select } from "./dom.js";
import * as format from "./format.js";
import { link } from "./route.js";

const ASK_EVERY_MS = 10_000;
/** What is worst comes first. */
const RANKS = ["missing", "bad", "waiting", "ok"];
const MOODS = { missing: "bad", bad: "bad", waiting: "warn", ok: "ok" };
const SILENCES = [["1h", "1 hour"], ["4h", "4 hours"], ["24h", "1 day"], ["168h", "1 week"]];
/** A silence of all tables is called so. */
const ALL = "*";

export class Alerts {
  #newest = new Newest();
  #timer;
  #isLeft = false;
  /** The lengths of silences that were chosen, by table. */
  #lengths = new Map();

  /** `title` names the sink. */
  constructor(place, title) {
    this.place = place;
    this.summary = h("p", { class: "note" });
    this.wrong = h("p", { class: "note wrong" });
    this.all = h("div", { class: "right" });
    this.cards = h("ul", { class: "cards wide" });
    this.element = h("section", {},
      h("header", { class: "title" }, h("h1", {}, title), this.all), this.wrong, this.summary, this.cards);
    this.load();
  }

  leave() {
    this.#isLeft = true;
    this.#newest.stop();
    clearTimeout(this.#timer);
  }

  key(name) {
    if (name !== "r") return false;
    this.load();
    return true;
  }

  async load() {
    clearTimeout(this.#timer);
    const signal = this.#newest.next();
    try {
      const tables = await get([this.place.sink, "status"], [], signal);
      const silences = await get([this.place.sink, "silences"], [], signal);
      if (isPressed(this.element)) return this.#again(PRESSED_MS);
      this.#show(tables, silences.find((silence) => silence.table === ALL));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#fail(error);
    }
    this.#again(ASK_EVERY_MS);
  }

  #again(pause) {
    this.#timer = setTimeout(() => this.load(), pause);
  }

  #fail(error) {
    this.wrong.replaceChildren(error.message);
    say(error.message);
  }

  #show(tables, all) {
    // A choice that is being made stays where it is; all the rest is drawn anew.
    const active = this.element.contains(document.activeElement) ? document.activeElement : null;
    const choice = active?.matches("select") ? active : null;
    this.wrong.replaceChildren();
    const wrong = tables.filter((table) => MOODS[table.state] === "bad").length;
    const text = tables.length === 0 ? "No tables yet: they appear with the first events."
      : wrong === 0 ? "Nothing is wrong." : `${wrong} of ${tables.length} tables ${wrong === 1 ? "needs" : "need"} a look.`;
    if (this.summary.textContent !== text) say(text);
    this.summary.replaceChildren(text);
    if (!choice || !this.all.contains(choice)) {
      this.all.replaceChildren(...(all ? this.#silenced(ALL, all.until) : this.#silencer(ALL, "Silence all")));
    }
    const sorted = [...tables].sort((a, b) => RANKS.indexOf(a.state) - RANKS.indexOf(b.state) || a.table.localeCompare(b.table));
    const items = sorted.map((table) => h("li", { "data-table": table.table }, this.#card(table, all)));
    this.#place(items, choice);
    if (!choice && active?.dataset.does) this.#focus(active.dataset);
  }

  /** Puts these cards in place of those that are there, around the one with the choice. */
  #place(items, choice) {
    const kept = choice?.closest("li");
    const at = kept ? items.findIndex((item) => item.dataset.table === kept.dataset.table) : -1;
    if (at < 0) return this.cards.replaceChildren(...items);
    for (const item of [...this.cards.children]) if (item !== kept) item.remove();
    kept.before(...items.slice(0, at));
    kept.after(...items.slice(at + 1));
    const [card, drawn] = [kept.firstElementChild, items[at].firstElementChild];
    const controls = choice.closest(".line");
    card.className = drawn.className;
    while (card.firstElementChild !== controls) card.firstElementChild.remove();
    controls.before(...[...drawn.children].filter((line) => !line.matches(".controls")));
  }

  /** The focus goes to the element that took the place of the one that had it. */
  #focus({ does, of }) {
    const same = [...this.element.querySelectorAll("[data-does]")].find((e) => e.dataset.does === does && e.dataset.of === of);
    same?.focus();
  }

  #card(table, all) {
    const isSilenced = table.silenced_until !== null && !all;
    const mood = MOODS[table.state] ?? "";
    return h("div", { class: `card ${mood}` },
      h("span", { class: "line" },
        h("a", { href: link({ sink: this.place.sink, table: table.table }), "data-does": "show", "data-of": table.table },
          h("b", { title: table.table }, table.table)),
        h("span", { class: "pills" }, states(table).map((state) => h("span", { class: `pill ${MOODS[state] ?? ""}` }, state)))),
      reasons(table).map((line) => h("span", {}, line)),
      all ? null : h("span", { class: "line controls" },
        isSilenced ? this.#silenced(table.table, table.silenced_until, table.silenced_by) : this.#silencer(table.table, "Silence")));
  }

  #silencer(table, text) {
    const length = select({ "aria-label": `How long: ${text} ${table === ALL ? "" : table}` }, SILENCES, this.#lengths.get(table) ?? "1h");
    length.addEventListener("change", () => this.#lengths.set(table, length.value));
    const silence = () => this.#order("POST", ["silences"], { table, for: length.value });
    return [length, h("button", { type: "button", "data-does": "silence", "data-of": table, onclick: silence }, text)];
  }

  /** What the player's file silences, only the file can end. */
  #silenced(table, until, by) {
    if (by === "file") return h("small", {}, `silenced by the configuration until ${format.time(until)}`);
    const end = () => this.#order("DELETE", ["silences", table]);
    return [h("small", {}, `silenced until ${format.time(until)}`),
      h("button", { type: "button", "data-does": "end", "data-of": table, onclick: end }, "End")];
  }

  async #order(method, parts, body) {
    try {
      await order(method, [this.place.sink, ...parts], body);
      // Another view was chosen meanwhile.
      if (this.#isLeft) return;
      document.activeElement.blur();
      await this.load();
    } catch (error) {
      this.#fail(error);
    }
  }
}

/** A table may be in alarm, and have no more events besides. */
function states(table) {
  return table.state === "missing" && table.bad_since !== null ? ["missing", "bad"] : [table.state];
}

/** Why it is as it is, in lines. */
function reasons(table) {
  const last = table.last_event === null ? "no event yet" : `last event ${format.ago(table.last_event)}`;
  const status = `“${table.bad_status}”`;
  const window = table.out_of ? ` of the last ${table.out_of}` : " in a row";
  const lines = [];
  if (table.state === "missing") {
    lines.push(`no event for more than ${format.span(table.heartbeat_secs)}`);
  }
  if (table.bad_since !== null) {
    const good = table.status === table.bad_status ? "" : ", the last event was good";
    lines.push(`bad for ${format.span(Math.max(Date.now() / 1000 - table.bad_since, 0))}: ${status}${good}`);
  } else if (table.bad_events > 0) {
    lines.push(`${table.bad_events} bad${window}, ${table.bad_needed} raise the alarm: ${status}`);
  }
  return [...lines, last];
}
