/** Hold the built app to its budgets, in bytes as gzip sends them. Run it after `npm run build`. */

import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const DIST = new URL('../dist/', import.meta.url);
const KB = 1000;
const BUDGETS = {
  'first-load script': 110 * KB,
  styles: 10 * KB,
  'reading worker': 30 * KB,
  'service worker': 20 * KB,
};

const size = (name) => gzipSync(readFileSync(new URL(name, DIST)), { level: 9 }).length;
const sum = (names) => names.reduce((total, name) => total + size(name), 0);

const html = readFileSync(new URL('index.html', DIST), 'utf8');
const loaded = (pattern) => [...html.matchAll(pattern)].map((match) => match[1].replace(/^\//, ''));
const assets = readdirSync(new URL('assets/', DIST)).map((name) => `assets/${name}`);

const sizes = {
  'first-load script': sum(loaded(/(?:src|href)="([^"]+\.js)"/g)),
  styles: sum(loaded(/href="([^"]+\.css)"/g)),
  'reading worker': sum(assets.filter((name) => name.includes('worker'))),
  'service worker': sum(['sw.js']),
};

let over = false;
for (const [what, budget] of Object.entries(BUDGETS)) {
  if (sizes[what] === 0) throw new Error(`nothing was found for: ${what}`);
  const verdict = sizes[what] <= budget ? 'ok' : 'OVER';
  over ||= verdict === 'OVER';
  process.stdout.write(`${verdict.padEnd(5)}${what.padEnd(20)}${sizes[what]} of ${budget} bytes gzipped\n`);
}
process.exitCode = over ? 1 : 0;
