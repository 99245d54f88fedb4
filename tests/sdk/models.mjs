#!/usr/bin/env node
// Uses the models host as programs do, with OpenAI's SDK: models.mjs GATEWAY HOST. Prints what it got
// as one JSON object, for tests/e2e/llm/sdk.rs to judge.

import dns from 'node:dns';

import OpenAI from 'openai';

const [gateway, host] = process.argv.slice(2);
// Not every resolver knows names below localhost, and fetch takes no other Host than the URL's.
const address = gateway.replace(/:\d+$/, '');
dns.lookup = (name, options, answer) =>
  options.all ? answer(null, [{ address, family: 4 }]) : answer(null, address, 4);
// A retry would hide what was wrong.
const patience = { timeout: 120_000, maxRetries: 0 };
const client = new OpenAI({ baseURL: `http://${host}/v1`, apiKey: 'none', ...patience });
const said = { listed: {} };
for await (const model of client.models.list()) said.listed[model.id] = model.state;

const messages = [{ role: 'user', content: 'Count from one to ten.' }];
const options = { messages, max_tokens: 8, temperature: 0 };
const answer = await client.chat.completions.create({ ...options, model: 'sdk-smollm2' });
said.chat = { text: answer.choices[0].message.content, model: answer.model };

const stream = await client.chat.completions.create({
  ...options,
  model: 'sdk-gpt',
  stream: true,
});
said.streamed = '';
for await (const chunk of stream) said.streamed += chunk.choices[0]?.delta?.content ?? '';

const embedded = await client.embeddings.create({ model: 'sdk-embed', input: 'a sentence' });
said.embedding = embedded.data[0].embedding.length;

await client.chat.completions.create({ messages, model: 'nobody' }).catch((error) => {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
  said.unknown = { code: error.code, param: error.param, message: error.error.message };
});
await client.models.retrieve('nobody').catch((error) => {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
  said.unlisted = error.code;
});
said.retrieved = (await client.models.retrieve('sdk-smollm2')).id;
console.log(JSON.stringify(said));
