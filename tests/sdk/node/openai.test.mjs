// The official OpenAI client for Node through the gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { all, askWeather, counted, hello, url, weather } from "./world.mjs";

const model = "gpt-4o-mini";
const tools = [{ type: "function", function: { name: "get_weather", parameters: weather } }];

function client(more = {}) {
  const { fetch, sent } = counted();
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-client", maxRetries: 0, timeout: 20_000, fetch, ...more });
  return { openai, sent };
}

test("chat", async () => {
  const got = await client().openai.chat.completions.create({ model, messages: hello });
  assert.ok(got.choices[0].message.content);
  assert.equal(got.choices[0].finish_reason, "stop");
  assert.ok(got._request_id);
});

test("a stream says what the answer says", async () => {
  const { openai } = client();
  const whole = await openai.chat.completions.create({ model, messages: hello });
  const chunks = await all(await openai.chat.completions.create({ model, messages: hello, stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].delta.content ?? "").join(""), whole.choices[0].message.content);
  assert.ok(chunks.every((c) => c.choices.length && !c.usage));
  const usage = await all(
    await openai.chat.completions.create({ model, messages: hello, stream: true, stream_options: { include_usage: true } }),
  );
  assert.ok(usage.at(-1).usage.total_tokens > 0);
});

test("tools, whole and in pieces", async () => {
  const { openai } = client();
  const got = await openai.chat.completions.create({ model, messages: askWeather, tools });
  const [call] = got.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.ok("city" in JSON.parse(call.function.arguments));
  const final = await openai.chat.completions.stream({ model, messages: askWeather, tools }).finalChatCompletion();
  assert.deepEqual(
    final.choices[0].message.tool_calls.map((c) => [c.function.name, c.function.arguments]),
    [[call.function.name, call.function.arguments]],
  );
});

test("embeddings in the default encoding and in floats", async () => {
  const { openai } = client();
  const ask = { model: "text-embedding-3-small", input: ["one", "two"] };
  const coded = await openai.embeddings.create(ask);
  const plain = await openai.embeddings.create({ ...ask, encoding_format: "float" });
  assert.equal(coded.data.length, 2);
  coded.data[1].embedding.forEach((x, n) => assert.ok(Math.abs(x - plain.data[1].embedding[n]) < 1e-6));
});

test("responses, whole and streamed", async () => {
  const { openai } = client();
  const got = await openai.responses.create({ model, input: "Say hello" });
  assert.ok(got.output_text && got._request_id);
  const events = await all(await openai.responses.create({ model, input: "Say hello", stream: true }));
  assert.equal(events.at(-1).type, "response.completed");
  const text = events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join("");
  assert.equal(text, got.output_text);
});

test("models", async () => {
  const { openai } = client();
  const models = await all(openai.models.list());
  assert.ok(models.some((m) => m.id.endsWith(model)));
  assert.equal((await openai.models.retrieve(models[0].id)).id, models[0].id);
});

test("a file goes through untouched", async () => {
  const file = await OpenAI.toFile(Buffer.alloc(300_000, 7), "a.wav");
  assert.ok((await client().openai.audio.transcriptions.create({ model: "whisper-1", file })).text);
});

for (const [status, kind, expected] of [
  [400, OpenAI.BadRequestError, 400],
  [401, OpenAI.AuthenticationError, 401],
  [403, OpenAI.PermissionDeniedError, 403],
  [404, OpenAI.NotFoundError, 404],
  [413, OpenAI.APIError, 413],
  [422, OpenAI.UnprocessableEntityError, 422],
  [429, OpenAI.RateLimitError, 429],
  [500, OpenAI.InternalServerError, 500],
  [503, OpenAI.InternalServerError, 503],
  [529, OpenAI.InternalServerError, 503],
]) {
  for (const stream of [false, true]) {
    test(`a ${status} is ${kind.name}${stream ? " before a stream" : ""}`, async () => {
      await assert.rejects(
        client().openai.chat.completions.create({ model: `o${status}/gpt-4o-node`, messages: hello, stream }),
        (error) => {
          assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
          assert.equal(error.status, expected);
          assert.ok(error.requestID && error.type && error.message);
          return true;
        },
      );
    });
  }
}

test("an unknown model is a 404 with names that would work", async () => {
  await assert.rejects(client().openai.chat.completions.create({ model: "opnai/gpt-4o-mini", messages: hello }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.match(error.message, /openai\/gpt-4o-mini/);
    return true;
  });
});

test("a stream that breaks throws", async () => {
  const { openai } = client();
  let got = 0;
  await assert.rejects(async () => {
    for await (const chunk of await openai.chat.completions.create({ model: "o-cut/gpt-4o-mini", messages: hello, stream: true })) {
      got += 1;
      assert.equal(chunk.choices[0].finish_reason, null);
    }
  });
  assert.ok(got > 0);
  await assert.rejects(async () => all(await openai.responses.create({ model: "o-cut/gpt-4o-mini", input: "Say", stream: true })));
});

test("the client's own timeout is kept", async () => {
  const { openai } = client({ timeout: 1000 });
  const began = performance.now();
  await assert.rejects(
    openai.chat.completions.create({ model: "o-hang/gpt-4o-mini", messages: hello }),
    (error) => error instanceof OpenAI.APIConnectionTimeoutError || error instanceof OpenAI.InternalServerError,
  );
  assert.ok(performance.now() - began < 2000);
});

test("an aborted stream leaves the client usable", async () => {
  const { openai } = client();
  const stream = await openai.chat.completions.create({ model, messages: hello, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  assert.ok((await openai.chat.completions.create({ model, messages: hello })).choices.length);
});

test("retries of the SDK do not multiply an outage", async () => {
  const { openai, sent } = client({ maxRetries: 5 });
  for (let n = 0; n < 20; n += 1) {
    await assert.rejects(
      openai.chat.completions.create({ model: "o-alone/gpt-4o-node", messages: hello }),
      OpenAI.InternalServerError,
    );
  }
  assert.equal(sent.length, 20);
});

for (const broken of ["o-down/gpt-4o-mini", "o-first/gpt-4o-mini"]) {
  test(`fallback to another provider goes unnoticed: ${broken}`, async () => {
    const { openai, sent } = client();
    const got = await openai.chat.completions.create({ model: broken, messages: hello });
    assert.ok(got.choices[0].message.content);
    assert.equal(sent[0].headers.get("x-sluice-provider"), "anthropic");
    const final = await openai.chat.completions.stream({ model: broken, messages: askWeather, tools }).finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.name, "get_weather");
    assert.equal(final.choices[0].finish_reason, "tool_calls");
    assert.equal(sent.length, 2);
  });
}

test("a brownout goes unnoticed", async () => {
  const { openai, sent } = client({ maxRetries: 2 });
  for (let n = 0; n < 40; n += 1) {
    assert.ok((await openai.chat.completions.create({ model: "o-brown/gpt-4o-mini", messages: hello })).choices[0].message.content);
  }
  assert.equal(sent.length, 40);
});

test("64 streams at once", async () => {
  const { openai } = client();
  const texts = await Promise.all(
    Array.from({ length: 64 }, async (_, n) => {
      const messages = [{ role: "user", content: `Say number ${n}` }];
      const chunks = await all(await openai.chat.completions.create({ model, messages, stream: true }));
      return chunks.map((c) => c.choices[0].delta.content ?? "").join("");
    }),
  );
  texts.forEach((text, n) => assert.match(text, new RegExp(`number ${n}`)));
});
