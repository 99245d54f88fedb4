#!/usr/bin/env node
// Opens the address of a model that sleeps in Chromium: waiting.mjs MODULES URL TEXT FOLDER. The page
// that waits has to be shown, and to turn into the model's own, which has TEXT. Pictures of both go
// to FOLDER.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [modules, url, text, folder] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)('playwright-core');
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // It runs as root, and opens nothing but what is tested.
  args: ['--no-sandbox'],
});
try {
  // The page must be readable without scripts.
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => complaints.push(message.text()));
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  const first = await page.goto(url);
  assert.equal(first.status(), 503);
  assert.match(await page.title(), / is waking$/);
  const step = page.locator('li[aria-current=step]');
  assert.equal(await step.count(), 1);
  await page.screenshot({ path: `${folder}/waiting.png` });
  // The policy lets its own style in: otherwise a list item is as bold as any other.
  const list = await page.locator('ol').boundingBox();
  const main = await page.locator('main').boundingBox();
  assert.ok(main.y > 50 && list.x > 100, 'the page has no style');

  await page.getByText(text).waitFor({ timeout: 60_000 });
  assert.equal(page.url(), url);
  await page.screenshot({ path: `${folder}/served.png` });
  const elsewhere = asked.filter((it) => !it.startsWith(new URL(url).origin));
  assert.deepEqual(elsewhere, [], 'it has asked for something elsewhere');
  const refused = complaints.filter((it) => it.includes('Content Security Policy'));
  assert.deepEqual(refused, []);
} finally {
  await browser.close();
}
