import { beforeAll, expect, test } from 'vitest';
import type { Client } from '../api/client';
import { LockedOut, Refused, Unreachable } from '../api/http';
import type { Study, Submission } from '../api/types';
import { after, type OutboxItem, saved } from '../domain/outbox';
import type { Details } from '../storage/files';
import { type Ports, runOutbox } from './outbox';

beforeAll(() => {
  Object.assign(globalThis, { self: { location: new URL('https://clinic.test:8443/') } });
});

const FILE = new File([new Uint8Array(10)], 'x');
const DETAILS: Details = {
  patient: { name: 'Doe^Jane', id: '1', birthDate: '', sex: '' },
  studies: [],
  confirmation: { studies: [], impression: '', priority: 'routine', destination: null },
};

const unused = async (): Promise<never> => {
  throw new Error('not asked for here');
};
const UNUSED = {
  status: unused,
  troubles: unused,
  destinations: unused,
  decide: unused,
  withdraw: unused,
  newDeviceCode: unused,
};

/** A node in memory that keeps what it is given; `fails` answers instead of a step. */
function world(items: readonly OutboxItem[], fails: Partial<Record<string, Error>> = {}) {
  const log: string[] = [];
  const store = new Map(items.map((item) => [item.id, item]));
  const files = new Map(items.map((item) => [item.id, new Set(['bytes', 'details'])]));
  const journey = new Set<string>();
  let copies = 1;
  const step = (name: string): void => {
    log.push(name);
    const error = fails[name.split(' ')[0] as string];
    if (error) throw error;
  };
  const client: Client = {
    ask: async (_, init) => {
      step(`${init?.method}`);
      if (init?.method === 'POST') return new Response(null, { status: 201, headers: { Location: '/u/1' } });
      return new Response(null, { status: 204, headers: { 'Upload-Offset': '10' } });
    },
    announce: async (id) => {
      step(`announce ${id}`);
      return { id: `s-${id}`, upload_url: '/u', state: 'waiting' };
    },
    confirm: async () => step('confirm'),
    submission: async () => {
      step('ask');
      return { state: 'kept', entries: ['e'], problem: null } as unknown as Submission;
    },
    remove: async () => step('remove'),
    ...UNUSED,
    study: async () => {
      step('study');
      const steps = (['clinic', 'pacs', 'erased'] as const).map((name) => ({
        step: name,
        done: journey.has(name),
        at: null,
        by: null,
        detail: null,
      }));
      // What the app does not look at may come and go with the node's version.
      return {
        ...{ entry_id: 'e', code: 'K7F-2QX', state: 'waiting', copies, journey: steps, trouble: null },
      } as unknown as Study;
    },
  };
  const ports: Ports = {
    client,
    records: {
      device: async () => undefined,
      setDevice: async () => {},
      all: async () => [...store.values()],
      add: async () => {},
      apply: async (id, event) => {
        const item = after(store.get(id) as OutboxItem, event);
        store.set(id, item);
        return item;
      },
      remove: async () => {},
    },
    files: {
      bytes: async (id) => (files.get(id)?.has('bytes') ? FILE : undefined),
      details: async (id) => (files.get(id)?.has('details') ? DETAILS : undefined),
      erase: async (id, what) => void files.get(id)?.delete(what),
      eraseAll: async (id) => void files.delete(id),
      ids: async () => [],
    },
    changed: () => {},
    progress: () => {},
    signal: new AbortController().signal,
  };
  return { log, store, files, journey, ports, copy: () => (copies += 1) };
}

const item = (id: string, urgent = false): OutboxItem =>
  saved({ id, kind: 'zip', bytes: 10, images: 1, modalities: [], urgent, savedAt: 1 });

/** The confirmation goes first: if the line breaks later, the node knows already what was decided. */
test('a study goes out in the order of the contract', async () => {
  const { log, ports, store } = world([item('a')]);

  expect(await runOutbox(ports)).toBe('to-be-continued');
  expect(log).toEqual(['announce a', 'confirm', 'POST', 'PATCH', 'ask', 'study']);
  expect(store.get('a')?.kept).toBe(true);
});

test('bytes go with the second copy, names with the confirmation of the PACS', async () => {
  const { copy, files, journey, ports } = world([item('a')]);

  await runOutbox(ports);
  expect([...(files.get('a') ?? [])]).toEqual(['bytes', 'details']);
  copy();
  await runOutbox(ports);
  expect([...(files.get('a') ?? [])]).toEqual(['details']);
  journey.add('pacs');
  await runOutbox(ports);
  await runOutbox(ports);
  expect(files.has('a')).toBe(false);
});

test('no network is no problem of the study', async () => {
  const { ports, store } = world([item('a')], { PATCH: new Unreachable(), HEAD: new Unreachable() });

  expect(await runOutbox(ports)).toBe('unreachable');
  expect(store.get('a')).toMatchObject({ confirmed: true, upload: '/u/1', received: false, problem: null });
});

test('a full node is waited for, and a refused study calls a person without stopping the others', async () => {
  const full = world([item('a')], { announce: new Refused(507, 'disk-full', '') });
  expect(await runOutbox(full.ports)).toBe('to-be-continued');
  expect(full.store.get('a')?.problem).toBeNull();

  const refused = world([item('a', true), item('b')], {
    confirm: new Refused(409, 'confirmation-differs', ''),
  });
  await runOutbox(refused.ports);
  expect(refused.store.get('a')?.problem).toBe('confirmation-differs');
  expect(refused.log.filter((line) => line.startsWith('announce'))).toEqual(['announce a', 'announce b']);
});

/** Asked before a byte has left; a node that has not met the others yet must not end a study for good. */
test('a study for an archive that this node does not know waits, and goes on where it is known', async () => {
  const fails: Partial<Record<string, Error>> = { confirm: new Refused(422, 'destination-unknown', '') };
  const { log, ports, store } = world([item('a')], fails);

  expect(await runOutbox(ports)).toBe('to-be-continued');
  expect(store.get('a')?.problem).toBe('destination-unknown');
  expect(log).toEqual(['announce a', 'confirm']);
  delete fails.confirm;
  await runOutbox(ports);
  expect(store.get('a')).toMatchObject({ kept: true, problem: null });
});

/** Only this device may have the other studies: nobody has said yet that they were handed in again. */
test('of a submission that is kept in part the kept studies are followed, and the bytes stay', async () => {
  const { copy, files, journey, ports, store } = world([item('a')]);
  const failed = { state: 'failed', entries: ['e'], problem: { code: 'partly-kept', detail: '' } };
  ports.client.submission = async () => failed as unknown as Submission;

  copy();
  await runOutbox(ports);
  expect(store.get('a')).toMatchObject({ kept: true, leftover: true, partly: 'partly-kept', problem: null });
  expect(store.get('a')?.entries).toMatchObject([{ code: 'K7F-2QX' }]);
  journey.add('pacs');
  await runOutbox(ports);
  expect([...(files.get('a') ?? [])]).toEqual(['bytes', 'details']);

  await ports.records.apply('a', { type: 'leftover-erased' });
  await runOutbox(ports);
  expect(files.has('a')).toBe(false);
});

test('a device that was taken away asks for its person', async () => {
  const { ports } = world([item('a')], { announce: new LockedOut() });

  expect(await runOutbox(ports)).toBe('locked-out');
});

/** Browsers may evict what is not persistent: better said than waited for. */
test('bytes that the browser deleted are told to a person', async () => {
  const { files, ports, store } = world([item('a')]);
  files.get('a')?.delete('bytes');

  await runOutbox(ports);

  expect(store.get('a')?.problem).toBe('local-copy-lost');
});

test('a submission that the node forgot is announced again', async () => {
  const lost = world([item('a')], { ask: new Refused(404, 'submission-unknown', '') });

  await runOutbox(lost.ports);

  expect(lost.log.filter((line) => line.startsWith('announce')).length).toBe(1);
  expect(lost.store.get('a')?.submission).toBeNull();
});
