"""Providers that other people wrote: what they send was not shaped by our own mock."""

import json
import os

import anthropic
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


@katan
def test_a_key_that_katan_does_not_know_is_the_same_exception(oai, ant):
    with pytest.raises(openai.AuthenticationError):
        oai.chat.completions.create(model="katan-stranger/katan", messages=HELLO)
    with pytest.raises(anthropic.AuthenticationError):
        ant.messages.create(model="katan-anthropic-stranger/katan", max_tokens=9, messages=HELLO)


@katan
def test_the_rate_limit_of_katan_is_the_same_exception(oai, sent):
    assert oai.chat.completions.create(model="katan-limited/katan", messages=HELLO).choices
    for _ in range(3):
        with pytest.raises(openai.RateLimitError) as caught:
            oai.with_options(max_retries=2).chat.completions.create(model="katan-limited/katan", messages=HELLO)
        assert int(caught.value.response.headers["retry-after"]) >= 1
    assert len(sent) <= 1 + 3 + 2, "the SDK was let retry into the limit"


@pytest.mark.parametrize("fake", FAKES)
def test_the_chaos_of_others_goes_unnoticed_with_a_fallback(oai, sent, fake):
    by = {}
    for n in range(40):
        stream = bool(n % 2)
        got = oai.chat.completions.with_raw_response.create(model=f"{fake}-bad/{fake}", messages=HELLO, stream=stream)
        provider = got.headers["x-sluice-provider"]
        by[provider] = by.get(provider, 0) + 1
        parsed = got.parse()
        text = "".join(c.choices[0].delta.content or "" for c in parsed) if stream else parsed.choices[0].message.content
        assert text
    assert len(sent) == 40 and by.get("anthropic"), by


@pytest.mark.parametrize("fake", FAKES)
def test_the_chaos_of_their_anthropic_side_goes_unnoticed_with_a_fallback(ant, sent, fake):
    for n in range(30):
        ask = {"model": f"{fake}-bad-anthropic/claude-{fake}", "max_tokens": 99, "messages": HELLO}
        if n % 2:
            with ant.messages.stream(**ask) as stream:
                got = stream.get_final_message()
        else:
            got = ant.messages.create(**ask)
        assert got.content[0].text and got.stop_reason
    assert len(sent) == 30


@pytest.mark.parametrize("fake", FAKES)
def test_the_chaos_of_others_alone_is_an_answer_or_an_exception_and_never_half_of_one(oai, fake):
    texts, failed = [], 0
    for n in range(30):
        stream = bool(n % 2)
        try:
            got = oai.chat.completions.create(model=f"{fake}-bad-alone/{fake}", messages=HELLO, stream=stream)
            if stream:
                chunks = list(got)
                assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
                texts.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
            else:
                texts.append(got.choices[0].message.content)
        except (openai.APIStatusError, openai.APIConnectionError, openai.APIError):
            failed += 1
    # Katan ends with what it was told, aimock says one sentence: half an answer would end elsewhere.
    end = {"katan": "User: Say hello", "aimock": "that other people wrote."}[fake]
    assert texts and all(text.endswith(end) for text in texts), (failed, texts)
