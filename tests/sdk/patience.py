#!/usr/bin/env python3
"""Waits for models by OpenAI's SDK: patience.py GATEWAY HOST SLOW-MODEL FAILING-MODEL.

Prints what it got as one JSON object, for tests/e2e/local/waiting.rs to judge.
"""

import json
import sys

import openai

gateway, host, slow, failing = sys.argv[1:]
# The host by a header, for not every resolver knows names below localhost.
client = openai.OpenAI(
    base_url=f"http://{gateway}/v1",
    api_key="none",
    default_headers={"Host": host},
    timeout=120,
    # A retry would hide what was wrong.
    max_retries=0,
)
question = [{"role": "user", "content": "Count from one to ten."}]


def stream(model):
    chunks = client.chat.completions.create(
        messages=question, model=model, max_tokens=8, stream=True
    )
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    return "".join(part for part in parts if part)


said = {"slow": stream(slow)}
try:
    said["ended"] = stream(failing)
except openai.APIError as error:
    # Of a response that has begun there is no status any more.
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    said["failed"] = {"code": error.code, "message": error.message, "status": status}
print(json.dumps(said))
