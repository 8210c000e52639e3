// The official Anthropic client for Node through the gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import { all, askWeather, counted, hello, url, weather } from "./world.mjs";

const model = "claude-haiku-4-5";
const tools = [{ name: "get_weather", input_schema: weather }];
const ask = { model, max_tokens: 100, messages: hello };

function client(more = {}) {
  const { fetch, sent } = counted();
  return { anthropic: new Anthropic({ baseURL: url, apiKey: "sk-client", maxRetries: 0, timeout: 20_000, fetch, ...more }), sent };
}

test("messages", async () => {
  const got = await client().anthropic.messages.create(ask);
  assert.ok(got.content[0].text && got._request_id);
  assert.equal(got.stop_reason, "end_turn");
});

test("a stream says what the answer says", async () => {
  const { anthropic } = client();
  const whole = await anthropic.messages.create(ask);
  const final = await anthropic.messages.stream(ask).finalMessage();
  assert.deepEqual(final.content.map((b) => b.text), whole.content.map((b) => b.text));
  const events = await all(await anthropic.messages.create({ ...ask, stream: true }));
  assert.equal(events.at(-1).type, "message_stop");
});

test("tools, whole and in pieces", async () => {
  const { anthropic } = client();
  const got = await anthropic.messages.create({ ...ask, messages: askWeather, tools });
  assert.equal(got.content.at(-1).name, "get_weather");
  const final = await anthropic.messages.stream({ ...ask, messages: askWeather, tools }).finalMessage();
  assert.deepEqual(final.content.at(-1).input, got.content.at(-1).input);
});

test("count_tokens, beta and models", async () => {
  const { anthropic } = client();
  assert.ok((await anthropic.messages.countTokens({ model, messages: hello })).input_tokens > 0);
  const beta = await anthropic.beta.messages.create({ ...ask, betas: ["token-efficient-tools-2025-02-19"] });
  assert.ok(beta.content[0].text);
  const models = await all(anthropic.models.list());
  assert.ok(models.some((m) => m.id.endsWith(model)));
  assert.equal((await anthropic.models.retrieve(models[0].id)).id, models[0].id);
});

for (const [status, kind] of [
  [400, Anthropic.BadRequestError],
  [401, Anthropic.AuthenticationError],
  [403, Anthropic.PermissionDeniedError],
  [404, Anthropic.NotFoundError],
  [413, Anthropic.APIError],
  [422, Anthropic.UnprocessableEntityError],
  [429, Anthropic.RateLimitError],
  [500, Anthropic.InternalServerError],
  [503, Anthropic.InternalServerError],
  [529, Anthropic.InternalServerError],
]) {
  test(`a ${status} is ${kind.name}`, async () => {
    await assert.rejects(
      client().anthropic.messages.create({ ...ask, model: `a${status}/claude-node` }),
      (error) => {
        assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
        assert.equal(error.status, status);
        assert.ok(error.requestID && error.error.error.type);
        return true;
      },
    );
  });
}

test("a stream that breaks throws", async () => {
  const { anthropic } = client();
  await assert.rejects(anthropic.messages.stream({ ...ask, model: "a-cut/claude-haiku-4-5" }).finalMessage());
});

test("the gateway's timeout is an answer", async () => {
  await assert.rejects(client().anthropic.messages.create({ ...ask, model: "a-late/claude-node" }), (error) => {
    assert.equal(error.status, 504);
    return true;
  });
});
