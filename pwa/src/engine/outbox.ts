/**
 * Work through the outbox: ask `plan` what is next for each item, do it, store what came of it.
 *
 * Runs in a page and in a service worker, one at a time (Web Lock `uploader`). Needs no page: after
 * the app is closed, background sync runs the same code where the browser has it.
 */

import type { Client } from '../api/client';
import { LockedOut, OtherMesh, Refused, Unreachable } from '../api/http';
import type { Study } from '../api/types';
import { CHAIN } from '../domain/journey';
import {
  type EntryView,
  inOrder,
  type OutboxEvent,
  type OutboxItem,
  plan,
  type Step,
  type StepName,
} from '../domain/outbox';
import { BYTES, type Files } from '../storage/files';
import type { Records } from '../storage/records';
import { transfer } from './tus';

export interface Ports {
  readonly client: Client;
  readonly records: Records;
  readonly files: Files;
  /** An item changed in storage. */
  readonly changed: (id: string) => void;
  readonly progress: (id: string, sent: number, total: number) => void;
  readonly signal: AbortSignal;
}

/**
 * `unreachable`: try again later. `locked-out`: the device must be enrolled again. `elsewhere`: the node
 * that answers is of another mesh, and is given nothing.
 */
export type Outcome = 'rested' | 'to-be-continued' | 'unreachable' | 'locked-out' | 'elsewhere' | 'busy';

/** The node says these when it cannot now: the item waits, and nobody needs to do anything. */
const LATER = new Set([408, 423, 425, 429, 500, 503, 507]);
const LOCAL_COPY_LOST = 'local-copy-lost';
/** The node says that it keeps the submission, and names no study: nobody may rely on that. */
const NOTHING_KEPT = 'nothing-kept';
/** Some files of the submission could not be used, and the node keeps them for a person. */
const LEFTOVER = 'quarantined-left';

/** Go once through all items. Each goes as far as it can without waiting. */
export async function runOutbox(ports: Ports): Promise<Outcome> {
  let outcome: Outcome = 'rested';
  for (const item of inOrder(await ports.records.all())) {
    try {
      if (await advance(ports, item)) outcome = 'to-be-continued';
    } catch (error) {
      if (ports.signal.aborted || error instanceof Unreachable) return 'unreachable';
      if (error instanceof LockedOut) return 'locked-out';
      if (error instanceof OtherMesh) return 'elsewhere';
      outcome = 'to-be-continued';
    }
  }
  return outcome;
}

/** Take the item forward; return whether there is more to be done later. */
async function advance(ports: Ports, first: OutboxItem): Promise<boolean> {
  let item = first;
  // Each step is done once in a run: a step that comes again waits for somebody else.
  const tried = new Set<Step>();
  for (let step = plan(item); step !== 'rest'; step = plan(item)) {
    if (tried.has(step)) return true;
    tried.add(step);
    ports.signal.throwIfAborted();
    for (const event of await perform(ports, item, step)) {
      const stored = await store(ports, item.id, event);
      if (stored === undefined) return false;
      item = stored;
    }
  }
  return false;
}

async function store(ports: Ports, id: string, event: OutboxEvent): Promise<OutboxItem | undefined> {
  const item = await ports.records.apply(id, event);
  ports.changed(id);
  return item;
}

const PERFORM: Readonly<
  Record<Exclude<Step, 'rest'>, (p: Ports, i: OutboxItem) => Promise<readonly OutboxEvent[]>>
> = {
  announce: async (ports, item) => {
    const { id, upload_url: uploads } = await ports.client.announce(item.id, item.kind);
    return [{ type: 'announced', submission: id, uploads }];
  },
  confirm: async (ports, item) => {
    const details = await ports.files.details(item.id);
    if (details === undefined) return [{ type: 'problem', code: LOCAL_COPY_LOST }];
    await ports.client.confirm(item.submission as string, details.confirmation);
    return [{ type: 'confirmed' }];
  },
  send,
  ask: async (ports, item) => {
    const submission = await ports.client.submission(item.submission as string);
    switch (submission.state) {
      case 'kept':
        if (submission.entries.length === 0) return [{ type: 'problem', code: NOTHING_KEPT }];
        return [
          {
            type: 'kept',
            entries: submission.entries,
            leftover: submission.problem?.code === LEFTOVER,
          },
        ];
      case 'differs':
      case 'failed':
      case 'removed': {
        const code = submission.problem?.code ?? submission.state;
        const { entries } = submission;
        // The rest of it cannot be sent; what is kept is on its way.
        if (submission.state === 'failed' && entries.length > 0)
          return [{ type: 'kept', entries, leftover: true, partly: code }];
        return [{ type: 'problem', code }];
      }
      case 'waiting':
        // The node came back without the last piece; it is still here.
        return [{ type: 'bytes-missing' }];
      default:
        return [];
    }
  },
  follow: async (ports, item) =>
    Promise.all(
      item.entries.map(async ({ id }) => ({
        type: 'journey' as const,
        entry: view(await ports.client.study(id)),
      })),
    ),
  'erase-bytes': async (ports, item) => {
    await ports.files.erase(item.id, BYTES);
    return [{ type: 'bytes-erased' }];
  },
  'erase-details': async (ports, item) => {
    await ports.files.eraseAll(item.id);
    return [{ type: 'bytes-erased' }, { type: 'details-erased' }];
  },
};

async function perform(
  ports: Ports,
  item: OutboxItem,
  step: Exclude<Step, 'rest'>,
): Promise<readonly OutboxEvent[]> {
  try {
    return await PERFORM[step](ports, item);
  } catch (error) {
    if (!(error instanceof Refused) || item.kept || LATER.has(error.status)) throw error;
    const forgotten = error.status === 404 || error.status === 410;
    if (forgotten && item.submission !== null) return [{ type: 'submission-unknown' }];
    return [{ type: 'problem', code: error.code }];
  }
}

async function send(ports: Ports, item: OutboxItem): Promise<readonly OutboxEvent[]> {
  const file = await ports.files.bytes(item.id);
  if (file === undefined || file.size !== item.bytes) return [{ type: 'problem', code: LOCAL_COPY_LOST }];
  await transfer({
    ask: ports.client.ask,
    uploads: item.uploads as string,
    upload: item.upload,
    file,
    // The name says nothing of the patient: it may be written down on the way.
    metadata: {
      filename: item.kind === 'zip' ? 'study.zip' : 'image.dcm',
      filetype: item.kind === 'zip' ? 'application/zip' : 'application/dicom',
      submission: item.submission as string,
    },
    created: async (upload) => {
      await store(ports, item.id, { type: 'upload-created', upload });
    },
    progress: (sent, total) => ports.progress(item.id, sent, total),
    signal: ports.signal,
  });
  return [{ type: 'received' }];
}

function view(study: Study): EntryView {
  const { entry_id: id, code, state, copies, trouble, delivery } = study;
  const estimate = delivery?.estimate_s;
  const journey = study.journey
    .map(({ step, done, at = null, by = null }) => ({ step: step as StepName, done, at, by }))
    .filter(({ step }) => CHAIN.includes(step));
  return {
    ...{ id, code, state, copies, journey, trouble: trouble === null ? null : String(trouble.code) },
    silent: study.silent?.length ?? 0,
    setback: delivery?.setback ? String(delivery.setback) : null,
    estimateS: typeof estimate === 'number' ? estimate : null,
  };
}
