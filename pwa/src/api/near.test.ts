import { beforeEach, expect, test, vi } from 'vitest';
import type { Health } from './types';

const SHARED = new URL('https://test.local:8443/');
const WARD = 'https://ward.test.local:8443';
const CLINIC = 'https://clinic.test.local:8443';

let near: typeof import('./near');

beforeEach(async () => {
  vi.resetModules();
  Object.assign(globalThis, { self: { location: SHARED } });
  near = await import('./near');
});

const health = (url: string | null, mesh = 'm'): Health => ({
  ...{ status: 'pass', time: 1, node: `${url}`, mesh, version: '1', url },
});

/** Nodes by base; what is not there is unreachable. */
function nodes(there: Readonly<Record<string, Health>>) {
  const asked: string[] = [];
  const ask = async (base: string): Promise<Health> => {
    asked.push(base);
    const said = there[base];
    if (said === undefined) throw new Error('unreachable');
    return said;
  };
  return { asked, ask };
}

/** Two requests to the shared name may reach two nodes. */
test('the node that is near is talked to under its own name', async () => {
  await near.meet(nodes({ '': health(CLINIC), [CLINIC]: health(CLINIC) }).ask);
  expect(near.baseNow()).toBe(CLINIC);

  const again = nodes({ '': health(WARD), [CLINIC]: health(CLINIC), [WARD]: health(WARD) });
  await near.meet(again.ask);
  expect(near.baseNow()).toBe(CLINIC);
  expect(again.asked).toEqual([CLINIC]);
});

test('another node is taken when the chosen one no longer answers', async () => {
  await near.meet(nodes({ '': health(CLINIC), [CLINIC]: health(CLINIC) }).ask);
  near.doubt(CLINIC);
  expect(near.isDoubted()).toBe(true);

  await near.meet(nodes({ '': health(WARD), [WARD]: health(WARD) }).ask);
  expect(near.baseNow()).toBe(WARD);
  expect(near.isDoubted()).toBe(false);
});

test('with no node near nothing is chosen, and the next time it is asked again', async () => {
  await near.meet(nodes({ '': health(CLINIC), [CLINIC]: health(CLINIC) }).ask);
  await expect(near.meet(nodes({}).ask)).rejects.toThrow('unreachable');

  await near.meet(nodes({ '': health(WARD), [WARD]: health(WARD) }).ask);
  expect(near.baseNow()).toBe(WARD);
});

test('a node whose own name is not found from here is called by the shared one', async () => {
  await near.meet(nodes({ '': health(CLINIC) }).ask);
  expect(near.baseNow()).toBe('');

  await near.meet(nodes({ '': health(CLINIC), [CLINIC]: health(CLINIC, 'other') }).ask);
  expect(near.baseNow()).toBe('');
});

/** A token must never go where the app did not come from. */
test.each([
  ['https://evil.example', 'https://test.local'],
  ['https://eviltest.local', 'https://test.local'],
  ['http://ward.test.local', 'https://test.local'],
  ['nonsense', 'https://test.local'],
  [WARD, 'https://clinic.test.local'],
  [WARD, 'https://192.168.77.1'],
  [WARD, 'http://localhost:8080'],
])('%s is not taken by a page from %s', (told, page) => {
  expect(near.ownAddress(told, new URL(page))).toBeNull();
});
