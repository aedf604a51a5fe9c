// What is shown stands behind the `#` of the URL, so that it can be sent to somebody, and the back button works:
// #/SINK/TABLE/VIEW?name=value

/**
 * `{ sink, table, view, pairs }` of the page's URL. A choice changes these pairs, not those that its view was made with: until
 * the view of the choice before is drawn, the old one takes choices, too.
 */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [sink = "", table = "", view = ""] = path.split("/").map(decode);
  return { sink, table, view, pairs: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The link to a place. */
export function link({ sink = "", table = "", view = "", pairs = [] }) {
  const parts = [sink, table, view];
  while (parts.length && !parts.at(-1)) parts.pop();
  const query = new URLSearchParams(pairs).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${query && `?${query}`}`;
}

export function go(place) {
  location.hash = link(place);
}
