#!/usr/bin/env python3
"""Uses the models host with API keys, by OpenAI's SDK: keys.py GATEWAY HOST MODEL KEY.

The key is one whose requests are used up after one. Prints what it got as one JSON object, for
tests/e2e/local/keys.rs to judge.
"""

import json
import sys

import openai

gateway, host, model, key = sys.argv[1:]
# The host by a header, for not every resolver knows names below localhost. A retry would hide what was
# wrong.
settings = {
    "base_url": f"http://{gateway}/v1",
    "default_headers": {"Host": host},
    "timeout": 120,
    "max_retries": 0,
}
question = [{"role": "user", "content": "Hello."}]
said = {}


def ask(client):
    return client.chat.completions.create(messages=question, model=model, max_tokens=4)


try:
    ask(openai.OpenAI(api_key="sk-unknown", **settings))
except openai.AuthenticationError as error:
    said["unknown"] = {"status": error.status_code, "code": error.code}
client = openai.OpenAI(api_key=key, **settings)
said["listed"] = [listed.id for listed in client.models.list()]
said["tokens"] = ask(client).usage.total_tokens
try:
    ask(client)
except openai.RateLimitError as error:
    after = error.response.headers["retry-after"]
    said["spent"] = {"status": error.status_code, "code": error.code, "after": int(after)}
print(json.dumps(said))
