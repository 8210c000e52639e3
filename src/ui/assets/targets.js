// Targets and providers: how each stands, and why.

import { $, clock, count, h, keyed, ms, plural, say, table } from "./dom.js";
import { post } from "./api.js";

const STATES = {
  well: ["good", "well"], open: ["bad", "no calls"], probing: ["warn", "probing"], ramping: ["warn", "coming back"],
  resting: ["bad", "resting"], limited: ["warn", "some keys rest"], unused: ["", "not called yet"],
};

/** How a state is shown: a word, and a colour that says the same. */
export function badge(element, state) {
  const [cls, word] = STATES[state] ?? ["", state];
  const name = `tag ${cls}`;
  if (element.className !== name) element.className = name;
  say(element, word);
}

const OPENINGS = {
  failures_in_row: "failures in a row", failure_share: "too many failures", slow_calls: "slow calls",
  tokens_burnt: "tokens burnt by failures", probe_failed: "failed probes",
};

let may = () => false;
let locked = () => {};

/** `change` says whether this page may change something, `unlock` asks for the token. */
export function begin(change, unlock) { may = change; locked = unlock; }

function card(one) {
  const parts = {
    tag: h("span.tag"), words: h("p.words"), facts: h("dl.facts"), why: h("div"), note: h("p.note", { role: "status" }),
    reset: h("button", { type: "button" }, "Reset"),
  };
  const name = `${one.provider}/${one.model}`;
  parts.reset.setAttribute("aria-label", `Reset ${name}: close its breaker and free its keys`);
  parts.reset.addEventListener("click", async () => {
    if (!may()) return locked();
    try { say(parts.note, (await post("targets/reset", { provider: one.provider, model: one.model })).said); }
    catch (error) { say(parts.note, error.message); }
  });
  parts.foot = h("footer.row", null, parts.reset, parts.note);
  const element = h("article", { "aria-label": name }, h("header", null,
    h("h2.name", { title: name }, h("span.of", null, `${one.provider}/`), one.model), parts.tag),
  parts.words, parts.facts, parts.why, parts.foot);
  element.parts = parts;
  return element;
}

function facts(list, pairs) {
  const text = JSON.stringify(pairs);
  if (list.shown === text) return;
  list.shown = text;
  list.replaceChildren(...pairs.flatMap(([label, value]) => [h("dt", null, label), h("dd", null, value)]));
}

function update(element, one) {
  const { parts } = element;
  const cls = STATES[one.state]?.[0] ?? "";
  element.className = `card ${cls === "good" ? "" : cls}`;
  badge(parts.tag, one.state);
  say(parts.words, one.words);
  parts.foot.hidden = one.state === "well" || one.state === "unused";
  if (!one.called) return;
  const { breaker } = one;
  const opened = Object.entries(breaker.openings).filter(([, n]) => n > 0).map(([why, n]) => `${count(n)} × ${OPENINGS[why] ?? why}`);
  const time = ({ p50, p95 }) => (p50 == null ? "not known yet" : `${ms(p50)} median, ${ms(p95)} p95`);
  const rest = one.keys.filter((key) => key.cooling_ms > 0);
  facts(parts.facts, [
    ["Breaker", `${breaker.phase.replace("_", " ")}${breaker.left_ms ? `, ${ms(breaker.left_ms)} left` : ""}`],
    ["Last 10 s", `${plural(breaker.calls_10s, "call")}, ${plural(breaker.failures_10s, "failure")}`],
    ["Opened", opened.length ? opened.join(", ") : "never"],
    ["First token", time(one.first_token_ms)],
    ["Whole answer", time(one.answer_ms)],
    ["Keys", one.keys.length === 0 ? "none needed" : rest.length ? rest.map((key) => `${key.name} ${key.parked ? "parked" : "rests"} ${ms(key.cooling_ms)}`).join(", ") : `${plural(one.keys.length, "key")}, all free`],
  ]);
  const text = JSON.stringify(one.failures);
  if (parts.shown === text) return;
  parts.shown = text;
  parts.why.replaceChildren(...(one.failures.length ? [h("h3", null, "Why it failed lately"), h("ol", null, one.failures.map((failure) => h("li", null,
    h("time", { datetime: new Date(failure.unix_ms).toISOString() }, clock(failure.unix_ms)), h("span", null, failure.words))))] : []));
}

const SICK = ["open", "resting", "probing", "ramping", "limited", "well", "unused"];
let providers = null;

/** Shows a state. */
export function show(state) {
  const sick = state.targets.filter((one) => ["open", "resting", "probing"].includes(one.state)).length;
  const pip = $("pip-targets");
  pip.hidden = sick === 0;
  say(pip, `${sick}`);
  pip.title = `${plural(sick, "target")} without calls`;
  if ($("view-targets").hidden) return;
  const sorted = [...state.targets].sort((a, b) => SICK.indexOf(a.state) - SICK.indexOf(b.state));
  const items = sorted.length ? sorted : [null];
  keyed($("targets"), items, (one) => (one ? `${one.provider}/${one.model}` : ""),
    (one) => (one ? card(one) : h("p.nothing", null, "No target yet: nothing was called, and the configuration names no model. Send a request first.")),
    (element, one) => one && update(element, one));
  if (!providers) {
    providers = table("Providers", [{ title: "Provider" }, { title: "Calls running", cls: "n" }, { title: "Waiting", cls: "n" },
      { title: "Connections", cls: "n" }, { title: "Extra calls left", cls: "n" }, { title: "granted", cls: "n.wide" }, { title: "refused", cls: "n.wide" }]);
    $("providers").append(providers.element);
  }
  providers.body.replaceChildren(...state.providers.map((one) => h("tr", null, h("th", { scope: "row" }, one.name),
    h("td.n", null, one.calls_max ? `${count(one.calls)} of ${count(one.calls_max)}` : count(one.calls)), h("td.n", null, count(one.waiting)),
    h("td.n", null, count(one.connections)), h("td.n", null, one.retry_budget.left.toFixed(1)),
    h("td.n.wide", null, count(one.retry_budget.granted)), h("td.n.wide", null, count(one.retry_budget.refused)))));
}
