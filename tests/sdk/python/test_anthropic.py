"""The official Anthropic client through the gateway, to an Anthropic provider."""

import asyncio

import anthropic
import pytest

from conftest import ASK_WEATHER, HELLO, URL, WEATHER

MODEL = "claude-haiku-4-5"
TOOLS = [{"name": "get_weather", "description": "?", "input_schema": WEATHER}]


def test_messages(ant):
    got = ant.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert got.content[0].text and got.stop_reason == "end_turn"
    assert got.usage.input_tokens > 0 and got.usage.output_tokens > 0
    assert got._request_id


def test_the_answer_says_where_it_came_from(ant):
    raw = ant.messages.with_raw_response.create(model=f"anthropic/{MODEL}", max_tokens=100, messages=HELLO)
    assert raw.headers["x-sluice-provider"] == "anthropic"
    assert raw.headers["x-sluice-attempts"].startswith("anthropic 200 ")


def test_a_stream_says_what_the_answer_says(ant):
    whole = ant.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    with ant.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    events = list(ant.messages.create(model=MODEL, max_tokens=100, messages=HELLO, stream=True))
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_tools(ant):
    got = ant.messages.create(model=MODEL, max_tokens=100, messages=ASK_WEATHER, tools=TOOLS)
    call = got.content[-1]
    assert (call.type, call.name, got.stop_reason) == ("tool_use", "get_weather", "tool_use")
    assert "city" in call.input
    answered = [
        *ASK_WEATHER,
        {"role": "assistant", "content": got.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "3 degrees"}]},
    ]
    assert ant.messages.create(model=MODEL, max_tokens=100, messages=answered, tools=TOOLS).content[0].text


def test_tool_input_arrives_in_pieces(ant):
    with ant.messages.stream(model=MODEL, max_tokens=100, messages=ASK_WEATHER, tools=TOOLS) as stream:
        pieces = [e.partial_json for e in stream if e.type == "input_json"]
        final = stream.get_final_message()
    assert pieces and "city" in final.content[-1].input


def test_count_tokens(ant):
    assert ant.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0


def test_beta_messages(ant, sent):
    got = ant.beta.messages.create(
        model=MODEL, max_tokens=100, messages=HELLO, betas=["token-efficient-tools-2025-02-19"]
    )
    assert got.content[0].text
    assert "anthropic-beta" in sent.requests[-1].headers


def test_models(ant):
    page = ant.models.list()
    assert any(MODEL in model.id for model in page), page
    one = ant.models.retrieve(page.data[0].id)
    assert one.id == page.data[0].id and one.type == "model"
    with pytest.raises(anthropic.NotFoundError):
        ant.models.retrieve("no-such-model")


def test_many_at_once_over_one_async_client():
    async def run():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key="sk-client", max_retries=0) as client:

            async def one(n):
                messages = [{"role": "user", "content": f"Say number {n}"}]
                async with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as stream:
                    return await stream.get_final_text()

            return await asyncio.gather(*(one(n) for n in range(64)))

    answers = asyncio.run(run())
    assert all(f"number {n}" in answer for n, answer in enumerate(answers)), answers[:3]
