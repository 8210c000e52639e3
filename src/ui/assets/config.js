// The effective configuration: what serves after all defaults, with no secret in it.

import { $, count, h, plural, say, table } from "./dom.js";
import { get, post } from "./api.js";

let may = () => false;
let locked = () => {};
let changed = () => {};
let plan = 0;

/** `change` says whether this page may change something, `unlock` asks for the token, `taken` gets the configuration. */
export function begin(change, unlock, taken) {
  may = change;
  locked = unlock;
  changed = taken;
  $("reload").addEventListener("click", async () => {
    if (!may()) return locked();
    say($("reload-note"), "Loading.");
    try { say($("reload-note"), (await post("reload")).said); } catch (error) { say($("reload-note"), error.message); }
  });
}

const facts = (lines) => h("dl.facts", null, lines.flatMap((line) => [h("dt", null, line.label ?? line.name), h("dd", null, line.text ?? line.value)]));

function draw(config) {
  const { source } = config;
  const from = source.file ? `the file ${source.file}` : source.environment.length ? `no file; keys from ${source.environment.join(", ")}` : "no file and no key in the environment";
  const providers = table("Providers", [{ title: "Provider" }, { title: "Where" }, { title: "Dialect", cls: "wide" }, { title: "Keys" }]);
  providers.body.append(...config.providers.map((one) => h("tr", null, h("th", { scope: "row" }, one.name), h("td.mono", null, one.url), h("td.wide", null, one.dialect),
    h("td", null, one.keys.length ? one.keys.map((key) => h("div", null, `${key.name} `, h("span.mono.note", { title: "never shown" }, key.value), one.keys.length > 1 ? h("span.note", null, ` ${Math.round(100 * key.share)} %`) : null)) : h("span.note", null, "none needed"), one.headers.length ? h("div.note", null, `headers ${one.headers.join(", ")} (values hidden)`) : null))));
  const chains = config.chains.map((chain) => h("details.chain", null, h("summary", null, h("b", null, chain.asked), h("span.note", null, ` ${chain.targets.map((target) => target.name).join(" → ")}`)),
    h("p.note", null, chain.because), facts(chain.lines), chain.targets.map((target, number) => [h("h4", null, `${number + 1}. ${target.name}`, target.shares ? h("span.note", null, ` ${target.shares}`) : null), facts(target.lines)])));
  const panel = (id, title, more, ...rest) => h("section.panel", { "aria-labelledby": id }, h("h2", { id }, title, more ? h("span.count", null, ` ${more}`) : null), ...rest);
  $("config").replaceChildren(
    h("p.lead", null, `Plan ${config.plan} serves since ${new Date(config.loaded_unix_s * 1000).toLocaleString("en-GB")}, from ${from}. Secrets are never shown.`),
    config.warnings.length ? h("div.warnings", { role: "note" }, config.warnings.join("\n")) : "",
    h("div.split", null, h("div", null,
      panel("h-chains", "Models and what follows them", plural(config.models.length, "name"), ...chains),
      panel("h-parties", "Providers and keys", count(config.providers.length), h("div.scroll", { tabindex: "0", role: "group", "aria-labelledby": "h-parties" }, providers.element))),
    panel("h-settings", "Settings", "", facts(config.settings))));
}

/** Shows a state: another plan is another configuration. */
export async function show(state) {
  if (state.gateway.plan === plan) return;
  const before = plan;
  plan = state.gateway.plan;
  try {
    const config = await get("config");
    draw(config);
    changed(config);
  } catch { plan = before; }
}
