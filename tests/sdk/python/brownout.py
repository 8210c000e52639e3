"""Calls a gateway many times at once with the SDK as it comes, retries included, and prints what became of them.

Started by tests/sdk.rs, which counts on the provider's side: brownout.py URL MODEL CALLS AT_ONCE
"""

import asyncio
import collections
import json
import sys

import openai


async def main(url, model, calls, at_once):
    sent, outcomes, gate = [], collections.Counter(), asyncio.Semaphore(at_once)

    async def count(request):
        sent.append(request)

    http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count]})
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-client", timeout=30, http_client=http) as client:

        async def call(n):
            messages = [{"role": "user", "content": f"Say number {n}"}]
            async with gate:
                try:
                    if n % 2:
                        got = await client.chat.completions.create(model=model, messages=messages)
                        text = got.choices[0].message.content
                    else:
                        stream = await client.chat.completions.create(model=model, messages=messages, stream=True)
                        text = "".join([c.choices[0].delta.content or "" async for c in stream])
                    outcomes["ok" if f"number {n}" in text else "wrong"] += 1
                except openai.APIStatusError as error:
                    outcomes[f"{error.status_code}"] += 1

        await asyncio.gather(*(call(n) for n in range(calls)))
    print(json.dumps({"sent": len(sent), **outcomes}))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
