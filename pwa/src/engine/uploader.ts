/** One uploader at a time among all pages and the service worker, and how they tell each other. */

import { clientOf } from '../api/client';
import { files } from '../storage/files';
import { records } from '../storage/records';
import { type Outcome, runOutbox } from './outbox';

export type News =
  | { readonly type: 'changed'; readonly id: string }
  | { readonly type: 'progress'; readonly id: string; readonly sent: number; readonly total: number };

const CHANNEL = 'clinicmesh';
const LOCK = 'uploader';

/** Run the outbox once, unless another page or the service worker is doing it: then `busy`. */
export async function upload(signal: AbortSignal): Promise<Outcome> {
  return navigator.locks.request(LOCK, { ifAvailable: true }, async (lock) => (lock ? run(signal) : 'busy'));
}

/** Run the outbox once; a page that is doing it is waited for, as it may be closed in the middle. */
export async function uploadAfterOthers(signal: AbortSignal): Promise<Outcome> {
  return navigator.locks.request(LOCK, { signal }, () => run(signal));
}

async function run(signal: AbortSignal): Promise<Outcome> {
  const device = await records.device();
  if (device === undefined) return 'rested';
  const channel = new BroadcastChannel(CHANNEL);
  const tell = (news: News): void => channel.postMessage(news);
  try {
    return await runOutbox({
      client: clientOf(device),
      records,
      files,
      changed: (id) => tell({ type: 'changed', id }),
      progress: (id, sent, total) => tell({ type: 'progress', id, sent, total }),
      signal,
    });
  } finally {
    channel.close();
  }
}

/** Wait until nobody uploads, and do `work` before anybody does again. */
export async function withoutUploader<T>(work: () => Promise<T>): Promise<T> {
  return navigator.locks.request(LOCK, work);
}

/** Hear what whoever uploads has to tell; returns how to stop. */
export function hear(listener: (news: News) => void): () => void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = (message: MessageEvent<News>) => listener(message.data);
  return () => channel.close();
}
