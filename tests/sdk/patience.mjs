#!/usr/bin/env node
// Waits for models by OpenAI's SDK: patience.mjs GATEWAY HOST SLOW-MODEL FAILING-MODEL. Prints what it
// got as one JSON object, for tests/e2e/local/waiting.rs to judge.

import dns from 'node:dns';

import OpenAI from 'openai';

const [gateway, host, slow, failing] = process.argv.slice(2);
const [address, port] = gateway.split(':');
// Not every resolver knows names below localhost, and fetch takes no other Host than the URL's.
dns.lookup = (name, options, answer) =>
  options.all ? answer(null, [{ address, family: 4 }]) : answer(null, address, 4);
// A retry would hide what was wrong.
const patience = { timeout: 120_000, maxRetries: 0 };
const baseURL = `http://${host.replace(/:\d+$/, '')}:${port}/v1`;
const client = new OpenAI({ baseURL, apiKey: 'none', ...patience });
const messages = [{ role: 'user', content: 'Count from one to ten.' }];

async function stream(model) {
  const options = { messages, max_tokens: 8, model, stream: true };
  let text = '';
  for await (const chunk of await client.chat.completions.create(options)) {
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  return text;
}

const said = { slow: await stream(slow) };
try {
  said.ended = await stream(failing);
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  // Of a response that has begun there is no status any more.
  said.failed = { code: error.code, message: error.message, status: error.status ?? null };
}
console.log(JSON.stringify(said));
