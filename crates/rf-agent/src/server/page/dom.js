// Elements without markup: texts only ever become text nodes, so nothing in the data can become an element or a script.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && element.localName !== "option") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An HTML element: `h("p", { class: "note", onclick: f }, "text", other)`. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** A select; `options` are `[value, text]`. */
export const select = (attributes, options, chosen) =>
  h("select", attributes, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));

/** How long a view that draws itself anew waits while something in it is pressed. */
export const PRESSED_MS = 1000;

/** Whether something in the element is pressed: drawn anew before it is let go, it would not be clicked. */
export const isPressed = (element) => element.querySelector(":active") !== null;

/** Told to those who do not see the page. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
