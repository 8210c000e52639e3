"""Providers that other people wrote: what they send was not shaped by our own mock."""

import json
import os

import openai
import pytest

from conftest import ASK_WEATHER, HELLO, WEATHER

katan = pytest.mark.skipif(not os.environ.get("SDK_HAS_KATAN"), reason="llm-katan is not installed")
aimock = pytest.mark.skipif(not os.environ.get("SDK_HAS_AIMOCK"), reason="aimock is not installed")
FAKES = [pytest.param("katan", marks=katan), pytest.param("aimock", marks=aimock)]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "?", "parameters": WEATHER}}]
TOOLS_ANTHROPIC = [{"name": "get_weather", "description": "?", "input_schema": WEATHER}]


@pytest.mark.parametrize("fake", FAKES)
def test_chat_and_stream(oai, fake):
    got = oai.chat.completions.create(model=f"{fake}/{fake}", messages=HELLO)
    assert got.choices[0].message.content and got.usage.total_tokens and got._request_id
    text = ""
    for chunk in oai.chat.completions.create(model=f"{fake}/{fake}", messages=HELLO, stream=True):
        assert chunk.choices, "the usage chunk that nobody asked for was passed on"
        text += chunk.choices[0].delta.content or ""
    assert text


@pytest.mark.parametrize("fake", FAKES)
def test_tools(oai, fake):
    got = oai.chat.completions.create(model=f"{fake}/{fake}", messages=ASK_WEATHER, tools=TOOLS)
    assert got.choices[0].message.tool_calls[0].function.name == "get_weather"


@pytest.mark.parametrize("fake", FAKES)
def test_messages_and_stream(ant, fake):
    got = ant.messages.create(model=f"{fake}-anthropic/claude-{fake}", max_tokens=100, messages=HELLO)
    assert got.content[0].text and got._request_id
    with ant.messages.stream(model=f"{fake}-anthropic/claude-{fake}", max_tokens=100, messages=HELLO) as stream:
        assert stream.get_final_message().content[0].text


@pytest.mark.parametrize("fake", FAKES)
def test_anthropic_tools(ant, fake):
    with ant.messages.stream(
        model=f"{fake}-anthropic/claude-{fake}", max_tokens=100, messages=ASK_WEATHER, tools=TOOLS_ANTHROPIC
    ) as stream:
        final = stream.get_final_message()
    assert [b.name for b in final.content if b.type == "tool_use"] == ["get_weather"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fake", FAKES)
def test_fallback_to_the_fakes_anthropic_side(oai, fake, stream):
    if stream:
        with oai.chat.completions.stream(model=f"o-down/{fake}", messages=HELLO) as chunks:
            for _ in chunks:
                pass
            got = chunks.get_final_completion()
    else:
        raw = oai.chat.completions.with_raw_response.create(model=f"o-down/{fake}", messages=HELLO)
        assert raw.headers["x-sluice-provider"] == f"{fake}-anthropic"
        got = raw.parse()
    assert got.choices[0].message.content and got.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("fake", FAKES)
def test_streamed_tools_of_the_fakes_anthropic_side(oai, fake):
    with oai.chat.completions.stream(model=f"o-down/{fake}", messages=ASK_WEATHER, tools=TOOLS) as stream:
        for _ in stream:
            pass
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.name == "get_weather" and isinstance(json.loads(call.function.arguments), dict)


@aimock
def test_responses_and_embeddings_of_aimock(oai):
    assert oai.responses.create(model="aimock/aimock", input="Say hello").output_text
    events = list(oai.responses.create(model="aimock/aimock", input="Say hello", stream=True))
    assert events[-1].type == "response.completed"
    assert len(oai.embeddings.create(model="aimock/embed", input="hello").data[0].embedding) > 0


@aimock
def test_an_error_of_aimock_is_the_same_exception(oai):
    with pytest.raises(openai.RateLimitError) as caught:
        oai.chat.completions.create(model="aimock/limited", messages=[{"role": "user", "content": "limit me"}])
    assert "slow down" in caught.value.message.lower()
