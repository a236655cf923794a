/**
 * IndexedDB: this device's key and the outbox. Records hold random ids, sizes and states only;
 * deleted records linger in the browser's log files, so nothing of a patient may ever stand here.
 */

import { type DBSchema, type IDBPDatabase, openDB } from 'idb';
import type { Device } from '../api/device';
import { after, current, type OutboxEvent, type OutboxItem } from '../domain/outbox';

interface Schema extends DBSchema {
  device: { key: 'this'; value: Device };
  outbox: { key: string; value: OutboxItem };
}

export interface Records {
  device(): Promise<Device | undefined>;
  setDevice(device: Device): Promise<void>;
  all(): Promise<readonly OutboxItem[]>;
  add(item: OutboxItem): Promise<void>;
  /** Apply the event in one transaction; undefined when the item is gone. */
  apply(id: string, event: OutboxEvent): Promise<OutboxItem | undefined>;
  remove(id: string): Promise<void>;
}

/** What is written is on disk when the promise resolves, as far as the browser can say. */
const DURABLE = { durability: 'strict' } as const;

let opened: Promise<IDBPDatabase<Schema>> | null = null;

function database(): Promise<IDBPDatabase<Schema>> {
  opened ??= openDB<Schema>('clinicmesh', 1, {
    upgrade(db) {
      db.createObjectStore('device');
      db.createObjectStore('outbox', { keyPath: 'id' });
    },
    terminated() {
      opened = null;
    },
  });
  return opened;
}

export const records: Records = {
  device: async () => (await database()).get('device', 'this'),
  setDevice: async (device) => {
    const change = (await database()).transaction('device', 'readwrite', DURABLE);
    await Promise.all([change.store.put(device, 'this'), change.done]);
  },
  all: async () => (await (await database()).getAll('outbox')).map(current),
  add: async (item) => {
    const change = (await database()).transaction('outbox', 'readwrite', DURABLE);
    await Promise.all([change.store.add(item), change.done]);
  },
  apply: async (id, event) => {
    const change = (await database()).transaction('outbox', 'readwrite', DURABLE);
    const item = await change.store.get(id);
    const changed = item && after(current(item), event);
    if (changed) await change.store.put(changed);
    await change.done;
    return changed;
  },
  remove: async (id) => {
    const change = (await database()).transaction('outbox', 'readwrite', DURABLE);
    await Promise.all([change.store.delete(id), change.done]);
  },
};
