// Now: key figures, charts, what runs, how the targets stand.

import { $, count, dollars, h, keyed, ms, percent, plural, say, table } from "./dom.js";
import { Chart, COLOURS } from "./chart.js";
import { get } from "./api.js";
import { badge } from "./targets.js";

const REFRESH_MS = 5000;
const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);

let by = "providers";
let span = "hour";
let history = null;
let fetched = 0;
let charts = null;
const tiles = new Map();

const shares = (format, unit) => (series) => {
  const all = sum(series.map((one) => sum(one.values)));
  if (!all) return `none in this time`;
  const top = series.map((one) => [one.name || "no pipeline", sum(one.values)]).sort((a, b) => b[1] - a[1])[0];
  return `${format(all)}${unit}${series.length > 1 ? `, ${percent(top[1], all)} ${top[0]}` : ""}`;
};

function build() {
  const host = $("charts");
  const times = (series) => {
    const last = series.filter((one) => !one.dash).map((one) => one.values.findLast((value) => value != null)).filter((v) => v != null);
    return last.length ? `last ${ms(Math.max(...last))}` : "none in this time";
  };
  charts = {
    requests: new Chart(host, { title: "Requests", stacked: true, format: (v) => count(v), about: shares(count, "") }),
    errors: new Chart(host, { title: "Errors", stacked: true, format: (v) => count(v), about: shares(count, "") }),
    first: new Chart(host, { title: "First token", format: ms, about: times }),
    spend: new Chart(host, { title: "Spend", stacked: true, format: dollars, about: shares(dollars, "") }),
  };
  for (const button of document.querySelectorAll("[data-by]")) {
    button.addEventListener("click", () => { by = button.dataset.by; press("[data-by]", by, "by"); draw(); });
  }
  for (const button of document.querySelectorAll("[data-span]")) {
    button.addEventListener("click", () => { span = button.dataset.span; press("[data-span]", span, "span"); refresh(true); });
  }
}

function press(selector, value, name) {
  for (const button of document.querySelectorAll(selector)) button.setAttribute("aria-pressed", button.dataset[name] === value);
}

/** Fetches the history when it is time. */
export async function refresh(now = false) {
  const due = span === "hour" ? REFRESH_MS : 30_000;
  if (!now && Date.now() - fetched < due) return;
  fetched = Date.now();
  try {
    history = await get(`history?span=${span}`);
  } catch {
    return; // the header says that the gateway is away
  }
  draw();
}

/** Colours belong to names for as long as the page is open. */
const colours = { providers: new Map(), pipelines: new Map() };
function colourOf(side, name) {
  if (name === "other") return COLOURS - 1;
  const own = colours[side];
  if (!own.has(name)) own.set(name, own.size % (COLOURS - 1));
  return own.get(name);
}

const POINTS = 180;

/** Joins steps until the points are few enough to be seen one by one: sums are added up, of the medians the mean by
 *  requests is taken, of the 95th percentiles the highest. */
function joined(row, by, length) {
  if (by === 1) return row;
  const all = { name: row.name };
  for (const [column, values] of Object.entries(row)) {
    if (column === "name") continue;
    all[column] = Array.from({ length }, (_, at) => {
      const part = values.slice(at * by, at * by + by);
      if (!column.endsWith("_ms")) return sum(part);
      const known = part.map((value, n) => [value, row.requests[at * by + n] || 1]).filter(([value]) => value != null);
      if (!known.length) return null;
      if (column.includes("p95")) return Math.max(...known.map(([value]) => value));
      return known.reduce((whole, [value, weight]) => whole + value * weight, 0) / sum(known.map(([, weight]) => weight));
    });
  }
  return all;
}

function draw() {
  if (!history) return;
  charts ?? build();
  const together = [1, 2, 4].find((n) => history.steps / n <= POINTS) ?? 4;
  const length = Math.ceil(history.steps / together);
  const rows = history[by].map((row) => joined(row, together, length));
  const step = history.step_s * together;
  const times = Array.from({ length }, (_, at) => history.start_unix_s + at * step);
  const every = step < 60 ? `per ${step} s` : `per ${step / 60} min`;
  const series = (column, only = () => true) => rows.filter(only).map((row) => ({ name: row.name, values: row[column], colour: colourOf(by, row.name) }));
  const any = (column) => (row) => row[column].some((value) => value);
  const what = by === "providers" ? "Calls" : "Requests";
  charts.requests.set({ times, step, title: `${what} ${every}`, series: series("requests") });
  charts.errors.set({ times, step, title: `${by === "providers" ? "Failed calls" : "Errors"} ${every}`, series: series("errors", any("errors")) });
  charts.spend.set({ times, step, title: `Spend ${every}`, series: series("cost_usd", any("cost_usd")) });
  const streams = rows.some(any("first_token_p50_ms"));
  const [p50, p95] = streams ? ["first_token_p50_ms", "first_token_p95_ms"] : ["answer_p50_ms", "answer_p95_ms"];
  const latency = rows.filter(any(p50)).flatMap((row) => [
    { name: `${row.name || "no pipeline"} p50`, values: row[p50], colour: colourOf(by, row.name) },
    { name: `${row.name || "no pipeline"} p95`, values: row[p95], colour: colourOf(by, row.name), dash: true },
  ]);
  charts.first.set({ times, step, title: streams ? "First token, p50 and p95 (dashed)" : "Whole answer, p50 and p95 (dashed)", series: latency });
  keyed($("legend"), rows, (row) => `${by}/${row.name}`, (row) => {
    const swatch = h("span.swatch", { "aria-hidden": "true" });
    swatch.style.background = `var(--s${colourOf(by, row.name)})`;
    return h("li", null, swatch, row.name || "no pipeline");
  });
  drawTiles();
}

function tile(id, what) {
  const big = h("span.big");
  const sub = h("span.sub");
  $("tiles").append(h("li", null, h("span.what", null, what), big, sub));
  tiles.set(id, { big, sub, small: h("small") });
}

function setTile(id, big, small, sub, cls = "") {
  const own = tiles.get(id);
  if (own.shown !== big + small) {
    own.shown = big + small;
    own.big.replaceChildren(big, " ", h("small", null, small));
  }
  say(own.sub, sub);
  own.sub.className = `sub ${cls}`;
}

function drawTiles() {
  const recent = history?.recent;
  if (!recent) return;
  const hour = history.total;
  const within = span === "hour" ? "last hour" : "last day";
  setTile("requests", count(recent.requests), "in 5 min", `${count(hour.requests)} ${within}`);
  const share = recent.requests ? percent(recent.errors, recent.requests) : "0 %";
  setTile("errors", share, "in 5 min", recent.errors ? `${plural(recent.errors, "request")} without a good answer` : `none of ${count(recent.requests)}`, recent.errors ? "bad" : "");
  const streams = recent.first_token_p50_ms != null || recent.answer_p50_ms == null;
  const p50 = streams ? recent.first_token_p50_ms : recent.answer_p50_ms;
  const p95 = streams ? recent.first_token_p95_ms : recent.answer_p95_ms;
  setTile("first", ms(p50), p50 == null ? "" : "p50", p95 == null ? "no answer in 5 min" : `${streams ? "to the first token" : "to the whole answer"}, p95 ${ms(p95)}`);
  setTile("spend", dollars(hour.cost_usd), within, recent.cost_usd ? `${dollars(recent.cost_usd)} in 5 min` : "nothing priced in 5 min");
}

let running = null;
const PHASES = {
  choosing: "choosing a target", queued: "waits for a place", backoff: "waits before the next attempt",
  connecting: "connecting", waiting: "waits for the answer", answering: "answering",
};

/** Shows a state. */
export function show(state) {
  if (!tiles.size) {
    tile("requests", "Requests"); tile("errors", "Errors"); tile("first", "Latency"); tile("spend", "Spend"); tile("running", "Running");
    setTile("requests", "0", "in 5 min", ""); setTile("errors", "0 %", "in 5 min", ""); setTile("first", "–", "", ""); setTile("spend", "$0", "", "");
  }
  const now = state.running;
  setTile("running", count(now.count), now.streams ? plural(now.streams, "stream") : "", plural(state.gateway.connections, "client connection"));
  $("first").hidden = state.counts.exchanges > 0;
  say($("running-count"), now.count > now.listed.length ? `the oldest ${now.listed.length} of ${count(now.count)}` : now.count ? count(now.count) : "");
  if (!running) {
    running = table("Running exchanges", [{ title: "Model" }, { title: "Pipeline", cls: "wide" }, { title: "Where" }, { title: "Age", cls: "n" }]);
    running.none = h("p.nothing", null, "Nothing runs right now. Exchanges appear here while they do.");
    $("running").append(running.element, running.none);
  }
  running.element.hidden = now.listed.length === 0;
  running.none.hidden = now.listed.length > 0;
  running.body.replaceChildren(...now.listed.map((one) => h("tr", null,
    h("th.cut", { scope: "row", title: one.asked }, one.asked || "–", one.stream ? null : h("span.note", null, " whole")),
    h("td.wide.cut", null, one.pipeline || h("span.note", null, "not said")),
    h("td", { title: one.model }, one.provider ? `${one.provider}: ` : "", h("span.note", null, `${PHASES[one.phase] ?? one.phase} ${ms(one.phase_ms)}${one.attempts > 1 ? `, attempt ${one.attempts}` : ""}`)),
    h("td.n", null, ms(one.age_ms)))));
  const brief = state.targets.filter((one) => one.called);
  const list = brief.length ? brief : state.targets.slice(0, 12);
  keyed($("brief"), list.length ? list : [{ provider: "", model: "" }], (one) => `${one.provider}/${one.model}`, (one) => {
    if (!one.provider) return h("li", null, h("span.words", null, "No target was called yet."));
    const parts = { tag: h("span.tag"), words: h("span.words") };
    const item = h("li", null, h("span.name", { title: `${one.provider}/${one.model}` }, h("span.of", null, `${one.provider}/`), one.model), parts.tag, parts.words);
    item.parts = parts;
    return item;
  }, (item, one) => {
    if (!item.parts) return;
    badge(item.parts.tag, one.state);
    say(item.parts.words, one.words);
  });
}

/** Draws the charts again in the theme of the moment. */
export const redraw = () => charts && Object.values(charts).forEach((chart) => chart.draw());
