/**
 * A tus 1.0 client on fetch, so that a service worker can use it (XMLHttpRequest is missing there).
 *
 * Bodies are slices of a File: the browser streams them from disk. As ArrayBuffers the same upload
 * took seven times as long in Chromium. Each piece carries its SHA-256 (extension checksum).
 */

import { base64 } from '../api/device';
import { accepted, type ask, Refused, Unreachable } from '../api/http';
import { release } from './release';

const TUS = { 'Tus-Resumable': '1.0.0' };
/** Measured on loopback with fsync for each piece: 4 MiB was fastest among 1, 4, 8 and 16. */
const LARGEST = 4 * 1024 * 1024;
/** On a bad line a piece that breaks is sent again from its start, so pieces shrink down to this. */
const SMALLEST = 32 * 1024;
/** A piece may take this long: the smallest at 1 kbit/s. */
const PIECE_MS = 5 * 60_000;
const OFFSET_CONFLICT = 409;
const CHECKSUM_MISMATCH = 460;
const TRIES = 8;
/** Between tries of one piece, the longer the more have failed. */
const PAUSE_MS = 150;

/** After so many pieces that arrived, larger ones are tried again. */
const STREAK = 4;

/** What goes through; a line that was bad a moment ago is not tried with large pieces at once. */
let usual = LARGEST;

export type Ask = typeof ask;

export interface Transfer {
  readonly ask: Ask;
  /** Where uploads are created. */
  readonly uploads: string;
  /** The upload that was begun earlier. */
  readonly upload: string | null;
  readonly file: File;
  readonly metadata: Readonly<Record<string, string>>;
  readonly created: (upload: string) => Promise<void>;
  readonly progress: (sent: number, total: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Bring the whole file to the node, from where it stopped.
 *
 * Throws `Unreachable` when the line breaks (what arrived stays), `Refused` when the node will not,
 * and whatever the signal was aborted with.
 */
export async function transfer(job: Transfer): Promise<void> {
  const known = job.upload === null ? null : await offsetOf(job, job.upload);
  const upload = known === null || job.upload === null ? await create(job) : job.upload;
  let offset: number = known ?? 0;
  let piece = usual;
  let failed = 0;
  let arrived = 0;
  let ready = cut(job.file, offset, piece);
  job.progress(offset, job.file.size);
  while (offset < job.file.size) {
    job.signal.throwIfAborted();
    const before: number = offset;
    try {
      if (ready.from !== offset) ready = cut(job.file, offset, piece);
      const going = ready;
      // The next piece is hashed while this one is on its way.
      ready = cut(job.file, going.to, piece);
      offset = await send(job, upload, going);
      if (offset <= before) throw new Refused(409, 'no-progress', '');
      failed = 0;
      arrived += 1;
      if (arrived % STREAK === 0) piece = Math.min(LARGEST, piece * 2);
      usual = piece;
    } catch (error) {
      failed += 1;
      if (!mayTryAgain(error) || failed > TRIES) throw error;
      arrived = 0;
      piece = Math.max(SMALLEST, piece / 2);
      usual = piece;
      await pause(failed * PAUSE_MS, job.signal);
      offset = (await offsetOf(job, upload).catch(whenUnreachable)) ?? before;
    }
    job.progress(offset, job.file.size);
  }
}

/** A question that is cut off as well is asked again with the next piece: the node answers where it stands. */
function whenUnreachable(error: unknown): null {
  if (error instanceof Unreachable) return null;
  throw error;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  signal.throwIfAborted();
}

function mayTryAgain(error: unknown): boolean {
  if (error instanceof Unreachable) return true;
  return error instanceof Refused && (error.status === OFFSET_CONFLICT || error.status === CHECKSUM_MISMATCH);
}

async function create(job: Transfer): Promise<string> {
  const metadata = Object.entries(job.metadata).map(
    ([key, value]) => `${key} ${base64(new TextEncoder().encode(value))}`,
  );
  const headers = { ...TUS, 'Upload-Length': String(job.file.size), 'Upload-Metadata': metadata.join(',') };
  const response = await accepted(await job.ask(pathOf(job.uploads), { method: 'POST', headers }));
  const location = response.headers.get('Location');
  if (location === null) throw new Refused(response.status, 'no-location', '');
  const upload = pathOf(location);
  await job.created(upload);
  return upload;
}

/** Return the path of an address: a token is sent to the node that gave it, and nowhere else. */
function pathOf(address: string): string {
  const { pathname, search } = new URL(address, self.location.origin);
  return pathname + search;
}

/** Return how much the node has, or null when it does not know the upload any more. */
async function offsetOf(job: Transfer, upload: string): Promise<number | null> {
  const response = await job.ask(upload, { method: 'HEAD', headers: TUS });
  if (response.status === 404 || response.status === 410) return null;
  return offsetIn(await accepted(response));
}

interface Piece {
  readonly from: number;
  readonly to: number;
  readonly body: Blob;
  /** Its SHA-256, in base64. */
  readonly digest: Promise<string>;
}

function cut(file: File, from: number, size: number): Piece {
  const to = Math.min(from + size, file.size);
  const body = file.slice(from, to);
  const digest = digestOf(body);
  // It may never be waited for, when the line breaks before its turn.
  digest.catch(() => {});
  return { from, to, body, digest };
}

async function digestOf(body: Blob): Promise<string> {
  const bytes = await body.arrayBuffer();
  const hash = await crypto.subtle.digest('SHA-256', bytes);
  release(bytes);
  return base64(new Uint8Array(hash));
}

async function send(job: Transfer, upload: string, piece: Piece): Promise<number> {
  const { body } = piece;
  const headers = {
    ...TUS,
    'Content-Type': 'application/offset+octet-stream',
    'Upload-Offset': String(piece.from),
    'Upload-Checksum': `sha256 ${await piece.digest}`,
  };
  const limit = limited(job.signal, PIECE_MS);
  try {
    const response = await job.ask(upload, { method: 'PATCH', headers, body, signal: limit.signal });
    return offsetIn(await accepted(response));
  } finally {
    limit.end();
  }
}

/** Return a signal that also ends by itself. (`AbortSignal.any` is younger than our oldest browsers.) */
function limited(outer: AbortSignal, ms: number): { readonly signal: AbortSignal; readonly end: () => void } {
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  const timer = setTimeout(stop, ms);
  outer.addEventListener('abort', stop);
  const end = (): void => {
    clearTimeout(timer);
    outer.removeEventListener('abort', stop);
  };
  return { signal: controller.signal, end };
}

function offsetIn(response: Response): number {
  const offset = Number(response.headers.get('Upload-Offset') ?? Number.NaN);
  if (!Number.isSafeInteger(offset)) throw new Refused(response.status, 'no-offset', '');
  return offset;
}
