#!/usr/bin/env python3
"""Uses the models host as programs do, with OpenAI's SDK: models.py GATEWAY HOST.

Prints what it got as one JSON object, for tests/e2e/llm/sdk.rs to judge.
"""

import json
import sys

import openai

gateway, host = sys.argv[1:]
# The host by a header, for not every resolver knows names below localhost.
client = openai.OpenAI(
    base_url=f"http://{gateway}/v1",
    api_key="none",
    default_headers={"Host": host},
    timeout=120,
    # A retry would hide what was wrong.
    max_retries=0,
)
said = {"listed": {model.id: model.model_dump()["state"] for model in client.models.list()}}

question = [{"role": "user", "content": "Count from one to ten."}]
answer = client.chat.completions.create(
    messages=question, model="sdk-smollm2", max_tokens=8, temperature=0
)
said["chat"] = {"text": answer.choices[0].message.content, "model": answer.model}
stream = client.chat.completions.create(
    messages=question, model="sdk-gpt", max_tokens=8, temperature=0, stream=True
)
parts = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
said["streamed"] = "".join(part for part in parts if part)
embedded = client.embeddings.create(model="sdk-embed", input="a sentence")
said["embedding"] = len(embedded.data[0].embedding)
try:
    client.chat.completions.create(messages=question, model="nobody")
except openai.NotFoundError as error:
    said["unknown"] = {"code": error.code, "param": error.param, "message": error.body["message"]}
try:
    client.models.retrieve("nobody")
except openai.NotFoundError as error:
    said["unlisted"] = error.code
said["retrieved"] = client.models.retrieve("sdk-smollm2").id
print(json.dumps(said))
