// Try it: one request to a model, the curl line that is the same, the answer as it comes, and what the gateway says.

import { $, h, ms, say } from "./dom.js";
import { events, get } from "./api.js";

let abort = null;

const body = () => ({ model: $("try-model").value.trim(), stream: $("try-stream").checked || undefined, messages: [{ role: "user", content: $("try-prompt").value }] });
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A curl command for this body. */
export function curl(request, { pipeline = "", key = false } = {}) {
  const lines = [`curl ${location.origin}/v1/chat/completions${request.stream ? " -N" : ""}`, "-H 'content-type: application/json'"];
  if (key) lines.push('-H "authorization: Bearer $KEY"');
  if (pipeline) lines.push(`-H ${quoted(`x-sluice-pipeline: ${pipeline}`)}`);
  lines.push(`-d ${quoted(JSON.stringify(request))}`);
  return lines.join(" \\\n  ");
}

const pipeline = () => $("try-pipeline").value.trim().replace(/[^\x21-\x7e ]/g, "");
const show = () => say($("try-curl"), curl(body(), { pipeline: pipeline(), key: !$("try-key-field").hidden }));

async function send(event) {
  event.preventDefault();
  abort?.abort();
  const own = (abort = new AbortController());
  const began = performance.now();
  const since = () => performance.now() - began;
  const answer = $("try-answer");
  busy(true);
  answer.className = "answer";
  answer.textContent = "";
  $("try-headers").replaceChildren();
  say($("try-times"), "waiting");
  const headers = { "content-type": "application/json" };
  if (pipeline()) headers["x-sluice-pipeline"] = pipeline();
  if ($("try-key").value) headers.authorization = `Bearer ${$("try-key").value}`;
  try {
    const response = await fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body()), signal: own.signal });
    facts(response);
    let first = null;
    if (response.ok && response.headers.get("content-type")?.startsWith("text/event-stream")) {
      for await (const data of events(response.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message ?? "the stream broke off");
        const piece = chunk.choices?.[0]?.delta?.content;
        if (!piece) continue;
        first ??= since();
        answer.append(piece);
        say($("try-times"), `first token ${ms(first)}`);
      }
      say($("try-times"), `first token ${ms(first)}, done in ${ms(since())}`);
    } else {
      const text = await response.text();
      let words = text;
      try {
        const json = JSON.parse(text);
        words = json.choices?.[0]?.message?.content ?? json.error?.message ?? text;
      } catch { /* shown as it came */ }
      if (!response.ok) answer.className = "answer bad";
      answer.textContent = words;
      say($("try-times"), `${response.ok ? "done" : `status ${response.status}`} in ${ms(since())}`);
    }
  } catch (error) {
    const left = own.signal.aborted;
    if (!left) { answer.className = "answer bad"; answer.append(`\n${error.message}`); }
    say($("try-times"), left ? `stopped after ${ms(since())}` : "failed");
  } finally {
    if (abort === own) { abort = null; busy(false); }
  }
}

function facts(response) {
  const own = [...response.headers].filter(([name]) => name.startsWith("x-sluice-") || ["x-request-id", "retry-after", "x-should-retry"].includes(name)).sort();
  $("try-headers").replaceChildren(...[["status", String(response.status)], ...own].flatMap(([name, value]) => [h("dt.mono", null, name), h("dd.mono", null, value)]));
}

function busy(on) {
  $("try-send").disabled = on;
  $("try-stop").disabled = !on;
}

/** Fills the form from the configuration. */
export function begin(config, access) {
  $("try-key-field").hidden = !access?.client_key_needed;
  if (!$("try-model").value) $("try-model").value = config.sample_model;
  const models = new Set(config.models);
  const fill = () => $("try-models").replaceChildren(...[...models].map((value) => h("option", { value })));
  fill();
  const request = { model: config.sample_model, messages: [{ role: "user", content: "Hello" }] };
  say($("first-curl"), curl(request, { key: access?.client_key_needed }));
  show();
  // The whole list asks the providers, so only when somebody is about to choose.
  $("try-model").addEventListener("focus", async () => {
    try {
      const headers = $("try-key").value ? { authorization: `Bearer ${$("try-key").value}` } : {};
      const list = await (await fetch("/v1/models", { headers })).json();
      for (const model of list.data ?? []) models.add(model.id);
      fill();
    } catch { /* the names of the configuration have to do */ }
  }, { once: true });
}

for (const id of ["try-model", "try-prompt", "try-stream", "try-pipeline"]) $(id).addEventListener("input", show);
$("try").addEventListener("submit", send);
$("try-stop").addEventListener("click", () => abort?.abort());
$("try-prompt").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("try").requestSubmit(); });
show();
