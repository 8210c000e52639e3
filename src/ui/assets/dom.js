// Elements, numbers and times in words. Text is only ever set as text, so nothing that a client sent can be markup.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** An element: h("td.n", {title}, "text", child). Attributes that are functions are listeners; null ones are left out. */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** Puts text where it is another than before: screen readers and selections are left alone otherwise. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the children of `parent` those of `items`, keeping the element of each key: focus and open details stay. */
export function keyed(parent, items, key, make, update) {
  const old = (parent.kept ??= new Map());
  const now = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    const element = old.get(id) ?? make(item);
    update?.(element, item);
    now.set(id, element);
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
  }
  for (const [id, element] of old) if (!now.has(id)) element.remove();
  parent.kept = now;
}

/** A table of `columns` ({title, cls}) whose body is returned as `body`. */
export function table(label, columns) {
  const body = h("tbody");
  const head = columns.map((column) => h(column.cls ? `th.${column.cls}` : "th", { scope: "col" }, column.title));
  const element = h("table", { "aria-label": label }, h("thead", null, h("tr", null, head)), body);
  return { element, body };
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const count = (n) => whole.format(n);

/** 0.00123 as $0.0012: two digits that count, at least cents from a dollar on; `short` drops zeros. */
export function dollars(usd, short = false) {
  if (!usd) return "$0";
  if (usd >= 1000) return `$${whole.format(usd)}`;
  if (usd >= 1) return `$${usd.toFixed(2)}`;
  const digits = Math.min(9, Math.max(2, 1 - Math.floor(Math.log10(usd))));
  return `$${short ? Number(usd.toFixed(digits)) : usd.toFixed(digits)}`;
}

/** Milliseconds as 21 µs, 0.4 ms, 320 ms, 1.24 s, 12.4 s, 3 min 5 s. */
export function ms(value) {
  if (value == null) return "–";
  if (value > 0 && value < 0.1) return `${Math.round(value * 1000)} µs`;
  if (value < 10) return `${Number(value.toFixed(1))} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 10_000) return `${(value / 1000).toFixed(2)} s`;
  if (value < 120_000) return `${(value / 1000).toFixed(1)} s`;
  const seconds = Math.round(value / 1000);
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.floor(seconds / 60) % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** A time of day. */
export const clock = (unixMs) => clockFormat.format(new Date(unixMs));

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const percent = (part, all) => (all ? `${((100 * part) / all).toFixed(part && part / all < 0.1 ? 1 : 0)} %` : "–");
