"""A bad hour at the first provider: the SDK's user notices nothing but a header."""

import json
import time

import pytest

from conftest import ASK_WEATHER, HELLO, WEATHER

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "?", "parameters": WEATHER}}]
BAD = ["o-down/gpt-4o-mini", "o-first/gpt-4o-mini"]


@pytest.mark.parametrize("model", BAD)
def test_chat(oai, sent, model):
    raw = oai.chat.completions.with_raw_response.create(model=model, messages=HELLO)
    assert raw.headers["x-sluice-provider"] == "anthropic", raw.headers
    got = raw.parse()
    assert got.object == "chat.completion" and got.id and got.created
    assert got.choices[0].message.role == "assistant" and got.choices[0].message.content
    assert got.choices[0].finish_reason == "stop"
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens > 0
    assert got._request_id and len(sent) == 1


@pytest.mark.parametrize("model", BAD)
def test_stream(oai, sent, model):
    whole = oai.chat.completions.create(model=model, messages=HELLO).choices[0].message.content
    stream = oai.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert stream.response.headers["x-sluice-provider"] == "anthropic"
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices
    assert len({c.id for c in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    plain = list(oai.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert all(c.choices and c.usage is None for c in plain)


@pytest.mark.parametrize("model", BAD)
def test_tools(oai, model):
    got = oai.chat.completions.create(model=model, messages=ASK_WEATHER, tools=TOOLS, tool_choice="required")
    [call] = got.choices[0].message.tool_calls
    assert got.choices[0].finish_reason == "tool_calls" and call.type == "function"
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    answered = [
        {"role": "system", "content": "Be brief."},
        *ASK_WEATHER,
        got.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 3}'},
    ]
    assert oai.chat.completions.create(model=model, messages=answered, tools=TOOLS).choices[0].message.content


@pytest.mark.parametrize("model", BAD)
def test_streamed_tools(oai, model):
    with oai.chat.completions.stream(model=model, messages=ASK_WEATHER, tools=TOOLS) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_provider_that_hangs_is_left_at_its_limit(oai, sent):
    began = time.monotonic()
    raw = oai.chat.completions.with_raw_response.create(model="o-late/gpt-4o-mini", messages=HELLO)
    assert raw.headers["x-sluice-provider"] == "anthropic" and len(sent) == 1
    assert 0.9 < time.monotonic() - began < 2


def test_a_brownout_goes_unnoticed(oai, sent):
    patient, by = oai.with_options(max_retries=2), {}
    for n in range(60):
        stream = bool(n % 2)
        got = patient.chat.completions.with_raw_response.create(
            model="o-brown/gpt-4o-mini", messages=HELLO, stream=stream
        )
        provider = got.headers["x-sluice-provider"]
        by[provider] = by.get(provider, 0) + 1
        parsed = got.parse()
        if stream:
            assert sum(1 for _ in parsed) > 1
        else:
            assert parsed.choices[0].message.content
    assert len(sent) == 60, "the SDK had to retry"
    assert by.get("anthropic"), by
