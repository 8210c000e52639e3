// What every file needs: where the gateway is, and a fetch that counts what a client sends.
import assert from "node:assert/strict";

export const url = process.env.SLUICE_URL;
assert.ok(url, "SLUICE_URL is not set: start these tests with tests/sdk/run.py");

export const hello = [{ role: "user", content: "Say hello" }];
export const askWeather = [{ role: "user", content: "What is the weather in Oslo?" }];
export const weather = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city"],
};

/** A fetch that keeps each request's URL and each answer's head. */
export function counted() {
  const sent = [];
  const fetch = async (input, init) => {
    const entry = { url: String(input?.url ?? input) };
    sent.push(entry);
    const answer = await globalThis.fetch(input, init);
    entry.status = answer.status;
    entry.headers = answer.headers;
    return answer;
  };
  return { fetch, sent };
}

/** All parts of an async iterable. */
export async function all(iterable) {
  const parts = [];
  for await (const part of iterable) parts.push(part);
  return parts;
}
