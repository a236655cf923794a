/**
 * Copy what a person confirmed into this origin's private files, and hash it on the way.
 *
 * Runs in a dedicated worker: only there are synchronous handles, which flush to the disk. A picked
 * file is never kept by reference, because it dies with the CD. "Saved" may be said after `stage`
 * has returned and the outbox record is written.
 */

import { sha256 } from '@noble/hashes/sha2.js';
import type { ConfirmedStudy } from '../api/types';
import { crc32 } from '../domain/crc32';
import { digestCount, digestText, type HashedInstance, toHex } from '../domain/digest';
import { localHeader, memberNames, trailer, type ZipMember } from '../domain/zip';
import { BYTES, DETAILS, type Details, folder } from '../storage/files';
import type { Staged, StageJob } from './messages';

/** Up to this size a file is hashed by the browser in one go; beyond, piece by piece in script. */
const WHOLE = 32 * 1024 * 1024;
const PIECE = 4 * 1024 * 1024;

/** A file of the study, as it was read. */
export interface StagedFile {
  readonly file: File;
  readonly path: string;
  readonly studyUid: string;
  readonly instanceUid: string;
}

/** Write the item's two files, durably. Throws QuotaExceededError, NotReadableError and the like. */
export async function stage(
  job: StageJob,
  files: readonly StagedFile[],
  progress: (done: number, total: number) => void,
): Promise<Staged> {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const own = await folder(job.id);
  const out = await openForWriting(own, BYTES);
  let staged: { bytes: number; hashed: readonly HashedOf[] };
  try {
    out.truncate(0);
    staged = await writeBytes(out, files, (done) => progress(done, total));
    out.flush();
  } finally {
    out.close();
  }
  const studies = await confirmedStudies(staged.hashed);
  await writeDetails(own, {
    patient: job.found.patient,
    studies: job.found.studies.map(({ files: _, ...study }) => study),
    confirmation: {
      studies,
      impression: job.impression,
      priority: job.urgent ? 'urgent' : 'routine',
      destination: null,
    },
  });
  const images = studies.reduce((sum, study) => sum + study.instances, 0);
  return { kind: files.length === 1 ? 'file' : 'zip', bytes: staged.bytes, images };
}

type HashedOf = HashedInstance & { readonly studyUid: string };

async function openForWriting(
  own: FileSystemDirectoryHandle,
  name: string,
): Promise<FileSystemSyncAccessHandle> {
  return (await own.getFileHandle(name, { create: true })).createSyncAccessHandle();
}

async function writeBytes(
  out: FileSystemSyncAccessHandle,
  files: readonly StagedFile[],
  progress: (done: number) => void,
): Promise<{ bytes: number; hashed: readonly HashedOf[] }> {
  const asZip = files.length > 1;
  const names = memberNames(files.map(({ path }) => path));
  const members: ZipMember[] = [];
  const hashed: HashedOf[] = [];
  let at = 0;
  let read = 0;
  for (const [index, { file, studyUid, instanceUid }] of files.entries()) {
    const name = names[index] as string;
    const offset = at;
    const header = asZip ? localHeader({ name, size: file.size, crc: 0 }) : new Uint8Array(0);
    at += header.length;
    const copied = await copy(file, out, at, (done) => progress(read + done));
    at += file.size;
    read += file.size;
    if (asZip) {
      const member = { name, size: file.size, crc: copied.crc, offset };
      writeAll(out, localHeader(member), offset);
      members.push(member);
    }
    hashed.push({ studyUid, instanceUid, sha256: copied.sha256 });
  }
  if (asZip) at += writeAll(out, trailer(members, at), at);
  return { bytes: at, hashed };
}

/** Copy one file to `at`; return its checksum and its SHA-256 in hex. */
async function copy(
  file: File,
  out: FileSystemSyncAccessHandle,
  at: number,
  progress: (done: number) => void,
): Promise<{ crc: number; sha256: string }> {
  if (file.size <= WHOLE) {
    const bytes = await readExactly(file, 0, file.size);
    writeAll(out, bytes, at);
    progress(bytes.length);
    const digest = await crypto.subtle.digest('SHA-256', bytes as BufferSource);
    return { crc: crc32(bytes), sha256: toHex(new Uint8Array(digest)) };
  }
  const hash = sha256.create();
  let crc = 0;
  for (let done = 0; done < file.size; done += PIECE) {
    const bytes = await readExactly(file, done, Math.min(done + PIECE, file.size));
    writeAll(out, bytes, at + done);
    crc = crc32(bytes, crc);
    hash.update(bytes);
    progress(done + bytes.length);
  }
  return { crc, sha256: toHex(hash.digest()) };
}

async function readExactly(file: File, from: number, to: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(await file.slice(from, to).arrayBuffer());
  if (bytes.length !== to - from) throw new DOMException('the file changed', 'NotReadableError');
  return bytes;
}

/** A handle may write less than it was given when the room ends. */
function writeAll(out: FileSystemSyncAccessHandle, bytes: Uint8Array, at: number): number {
  const written = out.write(bytes as BufferSource, { at });
  if (written !== bytes.length) throw new DOMException('no room', 'QuotaExceededError');
  return written;
}

async function confirmedStudies(hashed: readonly HashedOf[]): Promise<readonly ConfirmedStudy[]> {
  const byStudy = new Map<string, HashedOf[]>();
  for (const instance of hashed) {
    const study = byStudy.get(instance.studyUid) ?? [];
    study.push(instance);
    byStudy.set(instance.studyUid, study);
  }
  return Promise.all(
    [...byStudy].map(async ([study_uid, instances]) => ({
      study_uid,
      digest: toHex(
        new Uint8Array(
          await crypto.subtle.digest('SHA-256', new TextEncoder().encode(digestText(instances))),
        ),
      ),
      instances: digestCount(instances),
    })),
  );
}

async function writeDetails(own: FileSystemDirectoryHandle, details: Details): Promise<void> {
  const out = await openForWriting(own, DETAILS);
  try {
    out.truncate(0);
    writeAll(out, new TextEncoder().encode(JSON.stringify(details)), 0);
    out.flush();
  } finally {
    out.close();
  }
}
