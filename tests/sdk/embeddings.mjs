#!/usr/bin/env node
// Has sentences embedded by OpenAI's SDK: embeddings.mjs GATEWAY HOST MODEL. Prints what it got as one
// JSON object, for tests/e2e/local/embeddings.rs to judge.

import dns from 'node:dns';

import OpenAI from 'openai';

const [gateway, host, model] = process.argv.slice(2);
// Not every resolver knows names below localhost, and fetch takes no other Host than the URL's.
const address = gateway.replace(/:\d+$/, '');
dns.lookup = (name, options, answer) =>
  options.all ? answer(null, [{ address, family: 4 }]) : answer(null, address, 4);
const patience = { timeout: 120_000, maxRetries: 0 };
const client = new OpenAI({ baseURL: `http://${host}/v1`, apiKey: 'none', ...patience });

const sentence = 'A man is eating food.';
const embed = (input, form) => client.embeddings.create({ model, input, ...form });
// The SDK asks for base64 unless told otherwise, and reads it.
const answer = await embed([sentence, 'Someone is having a meal.']);
const plain = await embed(sentence, { encoding_format: 'float' });
const said = {
  vectors: answer.data.map((each) => each.embedding),
  plain: plain.data[0].embedding,
  tokens: answer.usage.prompt_tokens,
  model: answer.model,
};
await embed('').catch((error) => {
  if (!(error instanceof OpenAI.BadRequestError)) throw error;
  said.empty = { param: error.param, message: error.error.message };
});
console.log(JSON.stringify(said));
