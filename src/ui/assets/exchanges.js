// The last exchanges, each with its attempts as a waterfall.

import { $, clock, count, dollars, h, ms, plural, say, table } from "./dom.js";
import { get } from "./api.js";

const KEPT = 200;
let all = [];
let last = 0;
let list = null;
let asking = false;
const rows = new Map();

const OUTCOMES = {
  ok: ["good", "ok"], client_error: ["warn", "request at fault"], upstream_error: ["bad", "no good answer"],
  rejected: ["warn", "turned away"], aborted: ["", "client left"],
};
const RESULTS = {
  ok: "answered", connect: "no connection", tls: "TLS failed", dns: "name did not resolve", connect_timeout: "no connection in time",
  first_token_timeout: "no content in time", token_gap_timeout: "fell silent", total_timeout: "not done in time", deadline: "client's deadline",
  reset: "connection closed", truncated: "broke off", empty_body: "empty answer", bad_content_type: "not an answer", error_in_ok: "error in a 200",
  stream_error: "error in the stream", bad_head: "broke HTTP", bad_body: "unreadable body", check_failed: "failed a check", cancelled: "cancelled",
};
const REASONS = { first: "first call", retry: "retry", fallback: "fallback", hedge: "hedge" };

const verdict = (attempt) => (attempt.answers && attempt.result === "ok" ? "good" : attempt.fault ? "bad" : attempt.result === "ok" ? "good" : "");
const result = (attempt) => (attempt.status ? `status ${attempt.status}` : RESULTS[attempt.result] ?? attempt.result);
const otherWay = (one) => one.outcome !== "ok" || one.attempts.length !== 1 || one.truncated;
const tokens = (one) => (one.tokens ? `${count(one.tokens.input + one.tokens.cache_read + one.tokens.cache_write)} → ${count(one.tokens.output)}` : "–");
const cost = (one) => (one.cost_nano_usd != null ? dollars(one.cost_nano_usd / 1e9) : one.tokens ? "unpriced" : "–");
const answeredBy = (one) => (one.provider ? `${one.provider}/${one.model}` : one.source === "static" ? "static answer" : one.source === "replay" ? "kept answer" : "–");

function strip(one) {
  const element = h("span.strip", { "aria-hidden": "true" });
  const whole = Math.max(one.duration_ms, 0.001);
  for (const attempt of one.attempts) {
    const part = h(`i${verdict(attempt) ? `.${verdict(attempt)}` : ""}`);
    part.style.flexGrow = `${Math.max(0.03, attempt.ms / whole)}`;
    element.append(part);
  }
  return element;
}

/** The attempts as lanes over one time axis, each with its words. */
export function waterfall(one) {
  const whole = Math.max(one.duration_ms, ...one.attempts.map((attempt) => attempt.after_ms + attempt.ms), 0.001);
  const at = (value) => `${Math.min(100, (100 * value) / whole)}%`;
  const lanes = one.attempts.map((attempt, number) => {
    const bar = h(`i${verdict(attempt) ? `.${verdict(attempt)}` : ""}`);
    bar.style.left = at(attempt.after_ms);
    bar.style.width = at(attempt.ms);
    const end = attempt.after_ms + attempt.ms;
    const text = h("em", null, ms(attempt.ms));
    // Beside the bar where there is room, else inside it at its end, else before it.
    if (end / whole < 0.85) text.style.left = `calc(${at(end)} + 4px)`;
    else if (attempt.ms / whole > 0.12) { text.className = "in"; text.style.right = `calc(100% - ${at(end)} + 2px)`; }
    else text.style.right = `calc(100% - ${at(attempt.after_ms)} + 4px)`;
    const lane = h("div.lane", { "aria-hidden": "true" }, bar, text);
    if (attempt.answers && one.first_token_ms != null) {
      const mark = h("s", { title: "first token" });
      mark.style.left = at(attempt.after_ms + one.first_token_ms);
      lane.append(mark);
    }
    const lost = attempt.lost ? `, lost ${attempt.lost.nano_usd ? dollars(attempt.lost.nano_usd / 1e9) : `about ${dollars(attempt.lost.estimated_nano_usd / 1e9)}`}` : "";
    return h("li", null, h("div.who", null, h("b", null, `${number + 1}. ${attempt.provider}${attempt.model ? `/${attempt.model}` : ""}`),
      h("span", null, `${REASONS[attempt.reason] ?? attempt.reason}${attempt.key ? `, key ${attempt.key}` : ""}: ${result(attempt)}${attempt.fault ? ` (fault: ${attempt.fault.replace("_", " ")})` : ""} after ${ms(attempt.ms)}${lost}`)), lane);
  });
  const axis = h("li", null, h("span.who"), h("div.axis", { "aria-hidden": "true" }, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", null, part ? ms(whole * part) : "0"))));
  return h("ol.fall", { "aria-label": "Attempts, in order; a dotted line is the first token" }, lanes, axis);
}

function detail(one) {
  const who = Object.entries(one.who ?? {});
  const pairs = [
    ["Request id", one.id ?? "none was given"], ["Endpoint", `${one.api}${one.stream ? ", stream" : ""}`], ["Route", one.route],
    ["Status", one.status ? `${one.status}${one.code ? `, ${one.code}` : ""}` : "none: the client left"],
    ["Answered by", `${answeredBy(one)}${one.key ? `, key ${one.key}` : ""}`],
    ["Time", `${ms(one.duration_ms)}${one.first_token_ms != null ? `, first token ${ms(one.first_token_ms)}` : ""}${one.queued_ms ? `, waited ${ms(one.queued_ms)} for a place` : ""}${one.overhead_ms != null ? `, the gateway's own ${ms(one.overhead_ms)}` : ""}`],
    ["Tokens", one.tokens ? `${tokens(one)}${one.tokens.cache_read ? `, ${count(one.tokens.cache_read)} from the provider's cache` : ""}${one.tokens.reasoning ? `, ${count(one.tokens.reasoning)} reasoning` : ""}` : one.usage_missing ? "the provider reported none" : "none"],
    ["Cost", cost(one)],
    ["Who asked", who.length ? who.map(([name, value]) => `${name} ${value}`).join(", ") : "not said"],
    ["SDK retries", one.client_retries ? count(one.client_retries) : null],
  ];
  return h("div", null, one.attempts.length ? waterfall(one) : h("p.note", null, "No provider was called."),
    h("dl.facts", null, pairs.filter(([, value]) => value != null).flatMap(([label, value]) => [h("dt", null, label), h("dd", null, value)])));
}

function row(one) {
  const [cls, word] = OUTCOMES[one.outcome] ?? ["", one.outcome];
  const open = h("button.open", { type: "button", "aria-expanded": "false" }, clock(Date.parse(one.time)));
  open.setAttribute("aria-label", `${clock(Date.parse(one.time))}, ${one.asked || one.api}, ${word}: details`);
  const element = h("tr.line", null, h("td", null, open),
    h("td", null, h(`span.tag${cls ? `.${cls}` : ""}`, null, word)),
    h("td.cut", { title: one.asked ?? one.api }, one.asked || h("span.note", null, one.code || one.api)),
    h("td.cut.wide", { title: answeredBy(one) }, answeredBy(one)),
    h("td.cut.wide", null, one.who?.pipeline ?? h("span.note", null, "–")),
    h("td.narrow", { title: plural(one.attempts.length, "attempt") }, strip(one), h("span.unseen", null, plural(one.attempts.length, "attempt"))),
    h("td.n", null, ms(one.duration_ms)),
    h("td.n.wide", null, ms(one.first_token_ms)),
    h("td.n.wide", null, tokens(one)),
    h("td.n.narrow", null, cost(one)));
  const more = h("tr.detail", { hidden: true }, h("td", { colspan: "10" }));
  const flip = () => {
    const shown = more.hidden;
    more.hidden = !shown;
    open.setAttribute("aria-expanded", String(shown));
    element.toggleAttribute("data-open", shown);
    if (shown && !more.firstChild.firstChild) more.firstChild.append(detail(one));
  };
  element.addEventListener("click", (event) => { if (!getSelection()?.toString() || event.target === open) flip(); });
  return { element, more };
}

function draw() {
  if (!list) {
    list = table("The last exchanges, newest first", [{ title: "Ended" }, { title: "Outcome" }, { title: "Asked for" }, { title: "Answered by", cls: "wide" }, { title: "Pipeline", cls: "wide" },
      { title: "Attempts", cls: "narrow" }, { title: "Time", cls: "n" }, { title: "First token", cls: "n.wide" }, { title: "Tokens", cls: "n.wide" }, { title: "Cost", cls: "n.narrow" }]);
    list.none = h("p.nothing");
    $("exchanges").append(list.element, list.none);
    for (const id of ["filter-text", "filter-bad"]) $(id).addEventListener("input", draw);
    $("filter-hold").addEventListener("change", () => { if (!$("filter-hold").checked) draw(); });
    $("filter").addEventListener("submit", (event) => event.preventDefault());
  }
  const text = $("filter-text").value.trim().toLowerCase();
  const bad = $("filter-bad").checked;
  const shown = all.filter((one) => (!bad || otherWay(one)) && (!text || (one.search ??= JSON.stringify(one).toLowerCase()).includes(text)));
  const keep = new Set(shown.map((one) => one.seq));
  for (const [seq, own] of rows) if (!keep.has(seq)) { own.element.remove(); own.more.remove(); rows.delete(seq); }
  let at = list.body.firstChild;
  for (const one of shown) {
    let own = rows.get(one.seq);
    if (!own) rows.set(one.seq, (own = row(one)));
    if (own.element === at) at = own.more.nextSibling;
    else { list.body.insertBefore(own.element, at); list.body.insertBefore(own.more, at); }
  }
  list.element.hidden = shown.length === 0;
  list.none.hidden = shown.length > 0;
  say(list.none, all.length ? "None of the last exchanges fits the filter." : "No exchange yet. Send a request, from Try it for example, and it appears here with its attempts.");
  say($("filter-note"), all.length ? `${count(shown.length)} of the last ${count(all.length)}` : "");
}

/** Takes the exchanges of a state in; asks for what was missed. */
export async function show(state) {
  const fresh = state.exchanges ?? [];
  // A gateway that began anew counts anew.
  if (state.exchanges_last < last) {
    for (const own of rows.values()) { own.element.remove(); own.more.remove(); }
    rows.clear();
    all = [];
    last = 0;
  }
  const oldest = fresh.length ? fresh.at(-1).seq : state.exchanges_last + 1;
  const gap = oldest > last + 1 && state.exchanges_last > last && (last > 0 || all.length === 0);
  if (gap && !asking) {
    asking = true;
    try { merge((await get(`exchanges?after=${last}`)).exchanges); } catch { /* the next state brings it up again */ } finally { asking = false; }
  } else if (fresh.length) merge(fresh);
  visible();
}

function merge(fresh) {
  // What was asked for may come after what was told meanwhile.
  const known = new Set(all.map((one) => one.seq));
  const added = fresh.filter((one) => !known.has(one.seq));
  if (!added.length) return;
  all = [...added, ...all].sort((a, b) => b.seq - a.seq).slice(0, KEPT);
  last = all[0].seq;
}

/** Draws when somebody sees it. */
export function visible() {
  if ($("view-exchanges").hidden || (list && $("filter-hold").checked)) return;
  draw();
}
