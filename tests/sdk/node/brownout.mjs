// Calls a gateway many times at once with the SDK as it comes, retries included, and prints what became of them.
// Started by tests/sdk.rs, which counts on the provider's side: brownout.mjs URL MODEL CALLS AT_ONCE
import OpenAI from "openai";

const [url, model, calls, atOnce] = process.argv.slice(2);
const outcomes = { sent: 0 };
const fetch = (input, init) => {
  outcomes.sent += 1;
  return globalThis.fetch(input, init);
};
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-client", timeout: 30_000, fetch });

async function call(n) {
  const messages = [{ role: "user", content: `Say number ${n}` }];
  let outcome;
  try {
    let text = "";
    if (n % 2) {
      text = (await openai.chat.completions.create({ model, messages })).choices[0].message.content;
    } else {
      for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0].delta.content ?? "";
      }
    }
    outcome = text.includes(`number ${n}`) ? "ok" : "wrong";
  } catch (error) {
    if (!(error instanceof OpenAI.APIError) || !error.status) throw error;
    outcome = String(error.status);
  }
  outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
}

let next = 0;
const lanes = Array.from({ length: Number(atOnce) }, async () => {
  while (next < Number(calls)) await call(next++);
});
await Promise.all(lanes);
console.log(JSON.stringify(outcomes));
