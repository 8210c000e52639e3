"""Every failure is the exception that the SDK's users already catch, and SDK retries do not multiply the load."""

import time

import anthropic
import openai
import pytest

from conftest import HELLO, URL

# The SDK's own class for a status, and the statuses that the gateway may answer with: a provider's error keeps its
# status where the client's API knows it (OpenAI's has no 529).
OPENAI = [
    (400, openai.BadRequestError, 400),
    (401, openai.AuthenticationError, 401),
    (403, openai.PermissionDeniedError, 403),
    (404, openai.NotFoundError, 404),
    (413, openai.APIStatusError, 413),
    (422, openai.UnprocessableEntityError, 422),
    (429, openai.RateLimitError, 429),
    (500, openai.InternalServerError, 500),
    (503, openai.InternalServerError, 503),
    (529, openai.InternalServerError, 503),
]
ANTHROPIC = [
    (400, anthropic.BadRequestError, 400),
    (401, anthropic.AuthenticationError, 401),
    (403, anthropic.PermissionDeniedError, 403),
    (404, anthropic.NotFoundError, 404),
    (413, anthropic.APIStatusError, 413),
    (422, anthropic.UnprocessableEntityError, 422),
    (429, anthropic.RateLimitError, 429),
    (500, anthropic.InternalServerError, 500),
    (503, anthropic.InternalServerError, 503),
    (529, anthropic.InternalServerError, 529),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("status", "kind", "expected"), OPENAI)
def test_openai_errors(oai, status, kind, expected, stream):
    with pytest.raises(kind) as caught:
        oai.chat.completions.create(model=f"o{status}/gpt-4o-mini", messages=HELLO, stream=stream)
    error = caught.value
    assert error.status_code == expected, error
    assert error.message and error.request_id, error.response.headers
    assert error.body["message"] and error.type and "code" in error.body
    assert "text/html" not in error.response.headers["content-type"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("status", "kind", "expected"), ANTHROPIC)
def test_anthropic_errors(ant, status, kind, expected, stream):
    with pytest.raises(kind) as caught:
        ant.messages.create(model=f"a{status}/claude-haiku-4-5", max_tokens=9, messages=HELLO, stream=stream)
    error = caught.value
    assert error.status_code == expected, error
    assert error.request_id, error.response.headers
    assert error.body["type"] == "error" and error.body["error"]["type"] and error.body["error"]["message"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503, 529])
def test_an_openai_client_is_told_what_an_anthropic_provider_said(oai, status):
    kind, expected = next((kind, expected) for s, kind, expected in OPENAI if s == status)
    with pytest.raises(kind) as caught:
        oai.chat.completions.create(model=f"a{status}/claude-sonnet-5", messages=HELLO)
    assert caught.value.status_code == expected, caught.value
    assert caught.value.body["message"]


def test_an_unknown_model_is_a_404_with_names_that_would_work(oai, ant):
    with pytest.raises(openai.NotFoundError) as caught:
        oai.chat.completions.create(model="opnai/gpt-4o-mini", messages=HELLO)
    assert caught.value.code == "model_not_found" and "openai/gpt-4o-mini" in caught.value.message
    with pytest.raises(anthropic.NotFoundError) as caught:
        ant.messages.create(model="nobody/claude", max_tokens=9, messages=HELLO)
    assert caught.value.body["error"]["type"] == "not_found_error"


def test_a_request_without_a_model_is_a_400(oai):
    with pytest.raises(openai.BadRequestError) as caught:
        oai.post("/chat/completions", body={"messages": HELLO}, cast_to=object)
    assert "model" in caught.value.message


def test_a_path_that_is_not_served_is_a_404(oai):
    with pytest.raises(openai.NotFoundError):
        openai.OpenAI(base_url=f"{URL}/nothing", api_key="sk", max_retries=0).models.list()


def test_a_rate_limit_tells_how_long_to_wait(oai):
    with pytest.raises(openai.RateLimitError) as caught:
        oai.chat.completions.create(model="o429/gpt-4o-nano", messages=HELLO)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 8


@pytest.mark.parametrize("model", ["o-cut/gpt-4o-mini", "o-stall/gpt-4o-mini"])
def test_a_stream_that_breaks_raises(oai, model):
    got = []
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        for chunk in oai.chat.completions.create(model=model, messages=HELLO, stream=True):
            got.append(chunk)
    # What came before the break was passed on, and nothing of it looks like an end.
    assert got and all(choice.finish_reason is None for chunk in got for choice in chunk.choices)


def test_a_responses_stream_that_breaks_raises(oai):
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        for event in oai.responses.create(model="o-cut/gpt-4o-mini", input="Say hello", stream=True):
            assert event.type != "response.completed"


def test_a_messages_stream_that_breaks_raises(ant):
    with pytest.raises((anthropic.APIError, anthropic.APIConnectionError)):
        with ant.messages.stream(model="a-cut/claude-haiku-4-5", max_tokens=99, messages=HELLO) as stream:
            for event in stream:
                assert event.type != "message_stop"


def test_a_translated_stream_that_breaks_raises(oai):
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        for chunk in oai.chat.completions.create(model="a-cut/claude-haiku-4-5", messages=HELLO, stream=True):
            assert chunk.choices[0].finish_reason is None


def test_the_clients_own_timeout_is_kept(oai):
    began = time.monotonic()
    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
        oai.with_options(timeout=1).chat.completions.create(model="o-hang/gpt-4o-mini", messages=HELLO)
    assert time.monotonic() - began < 2


def test_the_gateways_timeout_is_an_answer(oai, ant):
    began = time.monotonic()
    with pytest.raises(anthropic.InternalServerError) as caught:
        ant.messages.create(model="a-late/claude-haiku-4-5", max_tokens=9, messages=HELLO)
    assert 1 <= time.monotonic() - began < 2
    assert caught.value.status_code == 504
    assert "a-late" in caught.value.response.headers["x-sluice-attempts"]


def test_retries_of_the_sdk_do_not_multiply_an_outage(oai, sent):
    patient = oai.with_options(max_retries=5)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(openai.InternalServerError):
            patient.chat.completions.create(model="o-alone/gpt-4o-mini", messages=HELLO)
    # Without the gateway's word the SDK would have sent 120 requests, over more than a minute.
    assert len(sent) == 20
    assert time.monotonic() - began < 10


def test_a_brownout_without_a_second_provider_costs_at_most_one_request_a_call(oai, sent):
    patient, outcomes = oai.with_options(max_retries=5), []
    for _ in range(40):
        try:
            patient.chat.completions.create(model="o-alone-brown/gpt-4o-mini", messages=HELLO)
            outcomes.append("answer")
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1
            outcomes.append("429")
        except openai.InternalServerError as error:
            assert "retry-after" in error.response.headers, error
            outcomes.append("503")
    assert len(sent) <= 40 * 1.5, (len(sent), outcomes)
