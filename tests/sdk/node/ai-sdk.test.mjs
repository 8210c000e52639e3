// Vercel's AI SDK through the gateway: its OpenAI provider (which asks /v1/responses by default), chat, the
// OpenAI-compatible provider, and Anthropic.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

import { all, counted, url, weather } from "./world.mjs";

function models() {
  const { fetch, sent } = counted();
  const settings = { baseURL: `${url}/v1`, apiKey: "sk-client", fetch };
  return {
    sent,
    openai: createOpenAI(settings),
    anthropic: createAnthropic(settings),
    compatible: createOpenAICompatible({ name: "sluice", ...settings }),
  };
}

const kinds = {
  "openai by responses": [(m) => m.openai("gpt-4o-mini"), "/v1/responses"],
  "openai by chat": [(m) => m.openai.chat("gpt-4o-mini"), "/v1/chat/completions"],
  compatible: [(m) => m.compatible("openai/gpt-4o-mini"), "/v1/chat/completions"],
  anthropic: [(m) => m.anthropic("claude-haiku-4-5"), "/v1/messages"],
  "fallback to anthropic": [(m) => m.openai.chat("o-down/gpt-4o-mini"), "/v1/chat/completions"],
};

for (const [name, [pick, path]] of Object.entries(kinds)) {
  test(`generateText, ${name}`, async () => {
    const made = models();
    const got = await generateText({ model: pick(made), prompt: "Say hello", maxRetries: 0 });
    assert.ok(got.text);
    assert.ok(got.usage.totalTokens > 0);
    assert.ok(made.sent[0].url.endsWith(path), made.sent[0].url);
  });

  test(`streamText, ${name}`, async () => {
    const got = streamText({ model: pick(models()), prompt: "Say hello", maxRetries: 0, onError: ({ error }) => { throw error; } });
    const text = (await all(got.textStream)).join("");
    assert.ok(text);
    assert.equal(await got.finishReason, "stop");
    if (name !== "compatible") assert.ok((await got.usage).totalTokens > 0);
  });

  test(`a tool is called and its result is used, ${name}`, async () => {
    const asked = [];
    const getWeather = tool({
      description: "the weather",
      inputSchema: jsonSchema(weather),
      execute: async (input) => { asked.push(input); return { degrees: 3 }; },
    });
    const ask = { prompt: "What is the weather in Oslo?", tools: { get_weather: getWeather }, stopWhen: stepCountIs(3), maxRetries: 0 };
    const whole = await generateText({ model: pick(models()), ...ask });
    assert.equal(asked.length, 1);
    assert.ok("city" in asked[0]);
    assert.ok(whole.text);
    const streamed = streamText({ model: pick(models()), ...ask, onError: ({ error }) => { throw error; } });
    await all(streamed.fullStream);
    assert.equal(asked.length, 2);
    assert.ok(await streamed.text);
  });
}

test("structured output", async () => {
  const schema = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false });
  const { object } = await generateObject({ model: models().openai.chat("gpt-4o-mini"), schema, prompt: "A city", maxRetries: 0 });
  assert.equal(typeof object.city, "string");
});

test("embeddings", async () => {
  const { embeddings } = await embedMany({ model: models().openai.embedding("text-embedding-3-small"), values: ["one", "two"] });
  assert.equal(embeddings.length, 2);
  assert.ok(embeddings[0].length > 0);
});

for (const [name, pick, status] of [
  ["openai", (m) => m.openai.chat("o401/gpt-4o-ai"), 401],
  ["openai", (m) => m.openai.chat("o429/gpt-4o-ai"), 429],
  ["openai", (m) => m.openai.chat("o503/gpt-4o-ai"), 503],
  ["anthropic", (m) => m.anthropic("a529/claude-ai"), 529],
  ["anthropic", (m) => m.anthropic("a401/claude-ai"), 401],
]) {
  test(`a ${status} of ${name} is an APICallError`, async () => {
    await assert.rejects(generateText({ model: pick(models()), prompt: "Say hello", maxRetries: 0 }), (error) => {
      assert.ok(APICallError.isInstance(error), String(error));
      assert.equal(error.statusCode, status);
      return true;
    });
  });
}

test("a stream that breaks is an error, not an end", async () => {
  for (const model of [(m) => m.openai.chat("o-cut/gpt-4o-mini"), (m) => m.openai("o-cut/gpt-4o-mini"), (m) => m.anthropic("a-cut/claude-haiku-4-5")]) {
    const got = streamText({ model: model(models()), prompt: "Say hello", maxRetries: 0, onError: () => {} });
    let broken;
    try {
      broken = (await all(got.fullStream)).some((part) => part.type === "error");
    } catch {
      broken = true;
    }
    assert.ok(broken);
  }
});
