// JSON that keeps all digits of whole numbers: beyond 2^53 they are a BigInt, where the browser tells how they are written.

export function parse(text) {
  // Most texts hold none, and are read in a fraction of the time without a look at each value.
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_name, value, context) => (isRounded(value, context?.source) ? BigInt(context.source) : value));
}

const isRounded = (value, source) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(source ?? "");

export function stringify(value, indent) {
  return JSON.stringify(value, (_name, part) => (typeof part === "bigint" ? written(part) : part), indent);
}

const written = (whole) => JSON.rawJSON?.(String(whole)) ?? String(whole);
