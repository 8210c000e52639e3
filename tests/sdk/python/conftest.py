"""Clients of the gateway that run.py started; SLUICE_URL says where it is."""

import os

import anthropic
import openai
import pytest

URL = os.environ.get("SLUICE_URL", "")


def pytest_configure(config):
    if not URL:
        raise pytest.UsageError("SLUICE_URL is not set: start these tests with tests/sdk/run.py")


class Sent:
    """What a client put on the wire, counted at its transport."""

    def __init__(self):
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)

    def __len__(self):
        return len(self.requests)


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def oai(sent):
    """An OpenAI client that does not retry, so that a test sees the gateway's own answer."""
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent]})
    with openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-client", max_retries=0, timeout=20, http_client=http) as c:
        yield c


@pytest.fixture
def ant(sent):
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [sent]})
    with anthropic.Anthropic(base_url=URL, api_key="sk-client", max_retries=0, timeout=20, http_client=http) as c:
        yield c


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Oslo?"}]
HELLO = [{"role": "user", "content": "Say hello"}]
