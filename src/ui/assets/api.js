// The way to the gateway: JSON with the token, and the events with everything that can happen to them.

const BASE = "/admin/api/v1/";
const KEY = "sluice-admin-token";
let token = "";
try { token = sessionStorage.getItem(KEY) ?? ""; } catch { /* a browser that keeps nothing: the token lasts until reload */ }

/** Whether a token is held. */
export const hasToken = () => token !== "";

/** Takes a token, or forgets it when empty. */
export function setToken(value) {
  token = value;
  try { value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY); } catch { /* as above */ }
}

const fields = () => (token ? { "x-sluice-admin-token": token } : {});

/** What the gateway refused, with its own words. */
export class Refused extends Error {
  constructor(status, message, code) { super(message); this.status = status; this.code = code; }
}

async function read(response) {
  let body = null;
  try { body = await response.json(); } catch { /* not JSON: the status has to do */ }
  if (response.ok) return body;
  const words = body?.error?.message ?? body?.said ?? `the gateway answered ${response.status}`;
  throw new Refused(response.status, words, body?.error?.code ?? "");
}

/** GET below the API. */
export const get = async (name) => read(await fetch(BASE + name, { headers: fields(), cache: "no-store" }));

/** POST below the API. */
export const post = async (name, body = {}) => read(await fetch(BASE + name, {
  method: "POST", headers: { "content-type": "application/json", ...fields() }, body: JSON.stringify(body),
}));

/** The `data:` of each event of a response, as it comes. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const SILENCE_MS = 6000;

/** Follows the state. `on` is told of each state, of breaks and of refusals; the stream comes back by itself. */
export function follow(on) {
  let stop = null;
  let failures = 0;
  let timer = 0;

  async function once() {
    const abort = new AbortController();
    stop = abort;
    let silence = 0;
    const heard = () => { clearTimeout(silence); silence = setTimeout(() => abort.abort(), SILENCE_MS); };
    try {
      heard();
      const response = await fetch(`${BASE}events`, { headers: fields(), cache: "no-store", signal: abort.signal });
      if (!response.ok) await read(response);
      for await (const data of events(response.body)) {
        heard();
        failures = 0;
        if (stop !== abort) return;
        on.state(JSON.parse(data));
      }
      if (stop === abort) again("the gateway ended the connection");
    } catch (error) {
      if (stop !== abort) return;
      if (error instanceof Refused && error.status < 500) { stop = null; on.refused(error); }
      else again(error instanceof Refused ? error.message : "the gateway does not answer");
    } finally {
      clearTimeout(silence);
    }
  }

  function again(why) {
    failures += 1;
    const wait = Math.min(8000, 500 * 2 ** Math.min(failures - 1, 4));
    on.broken(why, wait);
    timer = setTimeout(once, wait);
  }

  const end = () => { clearTimeout(timer); const was = stop; stop = null; was?.abort(); };
  const begin = () => { end(); failures = 0; once(); };
  // A page that nobody sees costs the gateway nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  if (!document.hidden) begin();
  return { again: begin };
}
