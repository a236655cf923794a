/**
 * Where bytes come from: a picked file, or a member of a picked ZIP, unpacked while it is read.
 *
 * A ZIP is never unpacked as a whole. Whoever reads a member twice unpacks it twice, which costs time and
 * no memory.
 */

import {
  BadZip,
  bytesAt,
  END_64_BYTES,
  end64Of,
  endOf,
  LOCAL_BYTES,
  membersOf,
  type PackedMember,
  TAIL_BYTES,
  type ZipCode,
} from '../domain/unzip';
import type { Picked } from './messages';
import { release } from './release';

const PIECE = 4 * 1024 * 1024;

/** The bytes of one file. Reading throws `NotReadableError` when they are not what was promised. */
export interface Source {
  readonly path: string;
  readonly size: number;
  /** The bytes as the browser has them; null when they are packed. */
  readonly blob: Blob | null;
  /** Return the first bytes, fewer only when the file is shorter. */
  start(bytes: number): Promise<Uint8Array>;
  /** Return a stretch from the middle, where that is cheap: not of a packed member. */
  readonly stretch: ((from: number, to: number) => Promise<Uint8Array>) | null;
  /** Return all bytes, in pieces of at most 4 MiB. A piece may not be read any more when the next one is asked for. */
  pieces(): AsyncGenerator<Uint8Array, void>;
}

/** Why a source could not be read: the medium, or the ZIP that it is in. */
function notReadable(): DOMException {
  return new DOMException('not what was promised', 'NotReadableError');
}

async function bytesOf(blob: Blob): Promise<Uint8Array> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (bytes.length !== blob.size) throw notReadable();
  return bytes;
}

/** Return a file, or a stretch of one, as a source. */
export function plain(blob: Blob, path: string): Source {
  return {
    path,
    size: blob.size,
    blob,
    start: (bytes) => bytesOf(blob.slice(0, Math.min(bytes, blob.size))),
    stretch: (from, to) => bytesOf(blob.slice(from, to)),
    async *pieces() {
      for (let at = 0; at < blob.size; at += PIECE) {
        const piece = await bytesOf(blob.slice(at, Math.min(at + PIECE, blob.size)));
        yield piece;
        release(piece.buffer);
      }
    },
  };
}

function packed(blob: Blob, path: string, size: number): Source {
  const unpack = (): ReadableStreamDefaultReader<Uint8Array> =>
    blob
      .stream()
      .pipeThrough(new DecompressionStream('deflate-raw') as ReadableWritablePair<Uint8Array, Uint8Array>)
      .getReader();
  return {
    path,
    size,
    blob: null,
    stretch: null,
    start: async (bytes) => {
      const wanted = Math.min(bytes, size);
      const out = new Uint8Array(wanted);
      const reader = unpack();
      let at = 0;
      try {
        while (at < wanted) {
          const { value, done } = await reader.read();
          if (done) throw notReadable();
          out.set(value.subarray(0, wanted - at), at);
          at += value.length;
        }
      } finally {
        void reader.cancel().catch(() => {});
      }
      return out;
    },
    async *pieces() {
      const reader = unpack();
      let at = 0;
      try {
        for (;;) {
          const { value, done } = await reader.read().catch(() => {
            throw notReadable();
          });
          if (done) break;
          at += value.length;
          // More than it claims: made to fill the device.
          if (at > size) throw notReadable();
          yield value;
        }
      } finally {
        void reader.cancel().catch(() => {});
      }
      if (at !== size) throw notReadable();
    },
  };
}

/** Return a source with octets in front of it. */
export function preceded(source: Source, front: Uint8Array): Source {
  if (front.length === 0) return source;
  return {
    path: source.path,
    size: front.length + source.size,
    blob: null,
    stretch: null,
    start: async (bytes) => {
      const rest = bytes > front.length ? await source.start(bytes - front.length) : new Uint8Array(0);
      const out = new Uint8Array(front.length + rest.length);
      out.set(front);
      out.set(rest, front.length);
      return out.subarray(0, bytes);
    },
    async *pieces() {
      yield front;
      yield* source.pieces();
    },
  };
}

/** A picked file that is a ZIP, and what became of it. */
export type Opened =
  | { readonly members: readonly (Source | { readonly path: string; readonly problem: string })[] }
  | { readonly code: ZipCode };

const ZIP_STARTS = [
  [0x50, 0x4b, 0x03, 0x04],
  [0x50, 0x4b, 0x05, 0x06],
];

export function looksLikeZip(start: Uint8Array): boolean {
  return ZIP_STARTS.some((magic) => magic.every((byte, at) => start[at] === byte));
}

/** Open a ZIP: read its directory and nothing else. Throws only when the medium cannot be read. */
export async function openZip({ file, path }: Picked): Promise<Opened> {
  try {
    const tail = await bytesOf(file.slice(Math.max(0, file.size - TAIL_BYTES)));
    const end = endOf(tail, file.size);
    const place =
      'directory' in end
        ? end.directory
        : end64Of(await bytesOf(file.slice(end.zip64At, end.zip64At + END_64_BYTES)), end.zip64At);
    const found = membersOf(await bytesOf(file.slice(place.at, place.at + place.size)), place);
    const members = [];
    for (const member of found) members.push(await memberOf(file, path, member));
    return { members };
  } catch (error) {
    if (error instanceof BadZip) return { code: error.code };
    throw error;
  }
}

async function memberOf(
  file: File,
  archive: string,
  member: PackedMember,
): Promise<Source | { path: string; problem: string }> {
  const path = `${archive}/${member.name}`;
  if (member.problem !== null) return { path, problem: member.problem };
  const header = await bytesOf(file.slice(member.offset, member.offset + LOCAL_BYTES));
  const at = bytesAt(header, member.offset);
  const blob = file.slice(at, at + member.packed);
  if (member.method === 'stored' && member.packed !== member.size) throw new BadZip('zip-damaged');
  return member.method === 'stored' ? plain(blob, path) : packed(blob, path, member.size);
}
