#!/usr/bin/env python3
"""Has sentences embedded by OpenAI's SDK: embeddings.py GATEWAY HOST MODEL.

Prints what it got as one JSON object, for tests/e2e/local/embeddings.rs to judge.
"""

import json
import sys

import openai

gateway, host, model = sys.argv[1:]
client = openai.OpenAI(
    base_url=f"http://{gateway}/v1",
    api_key="none",
    default_headers={"Host": host},
    timeout=120,
    max_retries=0,
)
sentence = "A man is eating food."
# The SDK asks for base64 unless told otherwise, and reads it.
answer = client.embeddings.create(model=model, input=[sentence, "Someone is having a meal."])
plain = client.embeddings.create(model=model, input=sentence, encoding_format="float")
said = {
    "vectors": [each.embedding for each in answer.data],
    "plain": plain.data[0].embedding,
    "tokens": answer.usage.prompt_tokens,
    "model": answer.model,
}
try:
    client.embeddings.create(model=model, input="")
except openai.BadRequestError as error:
    said["empty"] = {"param": error.param, "message": error.body["message"]}
print(json.dumps(said))
