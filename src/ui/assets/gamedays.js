// Game days: the list, the run there is, and its verdicts as they come.

import { $, dollars, h, keyed, ms, plural, say, table } from "./dom.js";
import { get, post } from "./api.js";

let may = () => false;
let locked = () => {};
let list = null;
let asked = 0;
let seen = "";

/** `change` says whether this page may change something, `unlock` asks for the token. */
export function begin(change, unlock) {
  may = change;
  locked = unlock;
  $("days-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const days = [...document.querySelectorAll("#days input:checked")].map((box) => box.value);
    if (!days.length) return say($("days-note"), "Choose at least one day.");
    if (!may()) return locked();
    try { say($("days-note"), `${(await post("gamedays", { days, scale: Number($("days-scale").value) })).said}.`); } catch (error) { say($("days-note"), error.message); }
    load(true);
  });
  $("days-stop").addEventListener("click", async () => {
    if (!may()) return locked();
    try { say($("days-note"), (await post("gamedays/stop")).said); } catch (error) { say($("days-note"), error.message); }
  });
  $("days-scale").addEventListener("change", () => load(true));
}

function days(answer) {
  if (!list) {
    list = table("Game days", [{ title: "Day" }, { title: "What goes wrong" }, { title: "Bars", cls: "n.wide" }, { title: "Takes", cls: "n" }]);
    const box = h("input", { type: "checkbox", "aria-label": "All days" });
    box.addEventListener("change", () => document.querySelectorAll("#days tbody input").forEach((one) => { one.checked = box.checked; }));
    list.element.tHead.rows[0].cells[0].prepend(h("label.check", null, box), " ");
    $("days").append(list.element);
  }
  const scale = Number($("days-scale").value);
  keyed(list.body, answer.days, (day) => day.id, (day) => {
    const box = h("input", { type: "checkbox", value: day.id });
    const takes = h("td.n");
    const row = h("tr", null, h("th", { scope: "row" }, h("label.check", null, box, day.id)), h("td", null, day.title), h("td.n.wide", null, String(day.bars)), takes);
    row.takes = takes;
    return row;
  }, (row, day) => say(row.takes, ms(1000 * Math.max(day.seconds * scale, Math.min(day.seconds, day.seconds_fast)))));
}

function verdictOf(one) {
  const { figures } = one;
  const checks = one.checks.map((check) => h("li", null, h(`span.${check.passed ? "good" : "bad"}`, null, check.passed ? "met" : "missed"), h("span", null, check.bar, " ", h("b", null, check.got))));
  return h("details.verdict", one.passed ? null : { open: true }, h("summary", null, h(`span.tag.${one.passed ? "good" : "bad"}`, null, one.passed ? "met" : "missed"), h("b", null, one.id),
    h("span.figures", null, `${figures.answered} of ${figures.requests} answered, p99 ${ms(figures.answer_p99_ms)}, ${dollars(figures.spend_usd)}`)),
  h("p.note", null, one.title), one.problem ? h("p.bad", null, `It could not be played: ${one.problem}`) : null, h("ul", null, checks));
}

function run(answer) {
  const own = answer.run;
  $("days-start").disabled = Boolean(own?.running);
  $("days-stop").disabled = !own?.running;
  const verdicts = own?.verdicts ?? [];
  const met = verdicts.filter((one) => one.passed).length;
  say($("run-count"), own ? `${met} met, ${verdicts.length - met} missed${own.running ? `, ${own.days.length - verdicts.length} to go` : own.interrupted ? ", stopped" : ""}` : "");
  keyed($("run"), own ? [...verdicts].reverse() : [null], (one) => (one ? `${own.number}/${one.id}` : ""),
    (one) => (one ? verdictOf(one) : h("p.nothing", null, "No day was played since the start. Choose some and play them; all of them take about a minute at 20 times the speed.")));
  const now = `${own?.number}/${verdicts.length}/${own?.running}`;
  if (now !== seen && seen) {
    const newest = verdicts.at(-1);
    if (own?.running && newest) say($("run-say"), `${newest.id}: ${newest.passed ? "every bar is met" : "a bar was missed"}.`);
    else if (own && !own.running) say($("run-say"), `The run is over: ${met} met, ${verdicts.length - met} missed.`);
  }
  seen = now;
  if (own?.problem) say($("days-note"), own.problem);
}

function progress(now) {
  const host = $("run-progress");
  if (!now) return host.replaceChildren();
  const fill = h("i");
  fill.style.width = `${Math.min(100, (100 * now.elapsed_s) / Math.max(now.total_s, 0.001))}%`;
  host.replaceChildren(h("div.row", null, h("b", null, now.day), h("span.note", null, `day ${now.place} of ${now.of}`)),
    h("div.meter", { role: "progressbar", "aria-label": `Progress of ${now.day}`, "aria-valuenow": Math.round((100 * now.elapsed_s) / Math.max(now.total_s, 0.001)), "aria-valuemin": 0, "aria-valuemax": 100 }, fill),
    h("p.note", null, `${plural(now.sent, "request")} sent, ${now.answered} answered, ${now.failed} failed, ${now.open} open. ${now.providers.map((one) => `${one.name} ${plural(one.calls, "call")}`).join(", ")}. ${now.gateway}`));
}

async function load(force = false) {
  if (!force && Date.now() - asked < 900) return;
  asked = Date.now();
  try {
    const answer = await get("gamedays");
    days(answer);
    run(answer);
  } catch { /* the header says that the gateway is away */ }
}

let number = 0;
let playing = false;

/** Shows a state. */
export function show(state) {
  const { gameday } = state;
  const pip = $("pip-gamedays");
  pip.hidden = !gameday.running;
  pip.className = "pip calm";
  say(pip, `${gameday.passed + gameday.missed}/${gameday.days}`);
  pip.title = "game days are being played";
  if ($("view-gamedays").hidden) return;
  progress(gameday.progress);
  const changed = gameday.run !== number || gameday.running !== playing;
  if (!list || changed || gameday.running) load(changed);
  number = gameday.run;
  playing = gameday.running;
}
