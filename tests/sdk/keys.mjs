#!/usr/bin/env node
// Uses the models host with API keys, by OpenAI's SDK: keys.mjs GATEWAY HOST MODEL KEY. The key is one
// whose requests are used up after one. Prints what it got as one JSON object, for
// tests/e2e/local/keys.rs to judge.

import dns from 'node:dns';

import OpenAI from 'openai';

const [gateway, host, model, key] = process.argv.slice(2);
const [address, port] = gateway.split(':');
// Not every resolver knows names below localhost, and fetch takes no other Host than the URL's.
dns.lookup = (name, options, answer) =>
  options.all ? answer(null, [{ address, family: 4 }]) : answer(null, address, 4);
const baseURL = `http://${host.replace(/:\d+$/, '')}:${port}/v1`;
// A retry would hide what was wrong.
const settings = { baseURL, timeout: 120_000, maxRetries: 0 };
const messages = [{ role: 'user', content: 'Hello.' }];
const ask = (client) => client.chat.completions.create({ messages, model, max_tokens: 4 });

const said = {};
try {
  await ask(new OpenAI({ apiKey: 'sk-unknown', ...settings }));
} catch (error) {
  if (!(error instanceof OpenAI.AuthenticationError)) throw error;
  said.unknown = { status: error.status, code: error.code };
}
const client = new OpenAI({ apiKey: key, ...settings });
said.listed = [];
for await (const listed of client.models.list()) said.listed.push(listed.id);
said.tokens = (await ask(client)).usage.total_tokens;
try {
  await ask(client);
} catch (error) {
  if (!(error instanceof OpenAI.RateLimitError)) throw error;
  const after = Number(error.headers.get('retry-after'));
  said.spent = { status: error.status, code: error.code, after };
}
console.log(JSON.stringify(said));
