"""The official OpenAI client through the gateway, to an OpenAI provider."""

import asyncio
import json

import openai
import pydantic
import pytest

from conftest import ASK_WEATHER, HELLO, URL, WEATHER

MODEL = "gpt-4o-mini"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "?", "parameters": WEATHER}}]


def test_chat(oai):
    got = oai.chat.completions.create(model=MODEL, messages=HELLO)
    assert got.choices[0].message.content and got.choices[0].finish_reason == "stop"
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    assert got._request_id


def test_the_answer_says_where_it_came_from(oai):
    raw = oai.chat.completions.with_raw_response.create(model=f"openai/{MODEL}", messages=HELLO)
    assert raw.headers["x-sluice-provider"] == "openai"
    assert raw.headers["x-sluice-model"] == MODEL
    assert raw.headers["x-sluice-attempts"].startswith("openai 200 ")
    assert raw.parse().model == MODEL


def test_a_stream_says_what_the_answer_says(oai):
    whole = oai.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    chunks = list(oai.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"
    # Usage is asked for upstream, to count it; a client that did not ask must not see the extra chunk.
    assert all(c.choices and c.usage is None for c in chunks)


def test_a_stream_reports_usage_when_asked(oai):
    chunks = list(
        oai.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    assert not chunks[-1].choices and chunks[-1].usage.total_tokens > 0


def test_the_stream_helper_assembles_the_answer(oai):
    with oai.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


def test_a_client_that_stops_reading_a_stream_can_go_on(oai):
    for _ in range(5):
        stream = oai.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        next(iter(stream))
        stream.close()
    assert oai.chat.completions.create(model=MODEL, messages=HELLO).choices


def test_tools(oai):
    got = oai.chat.completions.create(model=MODEL, messages=ASK_WEATHER, tools=TOOLS, tool_choice="auto")
    [call] = got.choices[0].message.tool_calls
    assert got.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    answered = [
        *ASK_WEATHER,
        got.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 3}'},
    ]
    assert oai.chat.completions.create(model=MODEL, messages=answered, tools=TOOLS).choices[0].message.content


def test_tool_calls_arrive_in_pieces(oai):
    name, arguments, finish = "", "", None
    for chunk in oai.chat.completions.create(model=MODEL, messages=ASK_WEATHER, tools=TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (name, finish) == ("get_weather", "tool_calls")
    assert "city" in json.loads(arguments)


def test_structured_output_is_parsed(oai):
    class Place(pydantic.BaseModel):
        city: str
        people: int

    got = oai.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Place)
    assert isinstance(got.choices[0].message.parsed, Place)


def test_embeddings_in_the_default_encoding_and_in_floats(oai, sent):
    coded = oai.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert json.loads(sent.requests[-1].content)["encoding_format"] == "base64"
    plain = oai.embeddings.create(model="text-embedding-3-small", input=["one", "two"], encoding_format="float")
    assert len(coded.data) == len(plain.data) == 2
    assert coded.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
    few = oai.embeddings.create(model="text-embedding-3-small", input="one", dimensions=8)
    assert len(few.data[0].embedding) == 8


def test_responses(oai):
    got = oai.responses.create(model=MODEL, input="Say hello")
    assert got.output_text and got.status == "completed" and got._request_id
    tool = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}
    got = oai.responses.create(model=MODEL, input="What is the weather in Oslo?", tools=[tool])
    [call] = [item for item in got.output if item.type == "function_call"]
    assert call.name == "get_weather" and "city" in json.loads(call.arguments)


def test_responses_stream(oai):
    events = list(oai.responses.create(model=MODEL, input="Say hello", stream=True))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text and text == events[-1].response.output_text
    assert [e.sequence_number for e in events] == list(range(len(events)))
    with oai.responses.stream(model=MODEL, input="Say hello") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == text


def test_legacy_completions(oai):
    assert oai.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say").choices[0].text
    assert list(oai.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say", stream=True))


def test_models(oai):
    ids = [model.id for model in oai.models.list()]
    assert f"openai/{MODEL}" in ids or MODEL in ids, ids
    one = oai.models.retrieve(ids[0])
    assert one.id == ids[0] and one.object == "model"
    with pytest.raises(openai.NotFoundError):
        oai.models.retrieve("no-such-model")


def test_other_endpoints_pass_through(oai):
    assert oai.moderations.create(model="omni-moderation-latest", input="hello").results
    spoken = oai.audio.speech.create(model="tts-1", voice="alloy", input="hello")
    assert len(spoken.read()) > 0
    heard = oai.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF" + bytes(200_000)))
    assert heard.text
    assert oai.images.generate(model="dall-e-3", prompt="a boat").data


def test_a_prompt_of_a_megabyte(oai):
    text = "The quick brown fox jumps over the lazy dog. " * 24_000
    got = oai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    assert got.usage.prompt_tokens > 200_000


def test_many_at_once_over_one_async_client():
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="sk-client", max_retries=0) as client:

            async def one(n):
                messages = [{"role": "user", "content": f"Say number {n}"}]
                if n % 2:
                    got = await client.chat.completions.create(model=MODEL, messages=messages)
                    return got.choices[0].message.content
                text = ""
                async for chunk in await client.chat.completions.create(model=MODEL, messages=messages, stream=True):
                    text += chunk.choices[0].delta.content or ""
                return text

            return await asyncio.gather(*(one(n) for n in range(64)))

    answers = asyncio.run(run())
    # The mock repeats the start of the message, so each answer must be its own.
    assert all(f"number {n}" in answer for n, answer in enumerate(answers)), answers[:3]
