/**
 * Copy what a person confirmed into this origin's private files, and hash it on the way.
 *
 * Runs in a dedicated worker: only there are synchronous handles, which flush to the disk. A picked
 * file is never kept by reference, because it dies with the CD. "Saved" may be said after `stage`
 * has returned and the outbox record is written.
 */

import { sha256 } from '@noble/hashes/sha2.js';
import type { Confirmation, ConfirmedStudy } from '../api/types';
import { crc32 } from '../domain/crc32';
import { digestCount, digestText, type HashedInstance, toHex } from '../domain/digest';
import type { PictureUse } from '../domain/pictures';
import { localHeader, memberNames, trailer, type ZipMember } from '../domain/zip';
import { BYTES, DETAILS, type Details, folder } from '../storage/files';
import type { Staged, StageJob } from './messages';
import { release } from './release';
import type { Source } from './sources';

/** Up to this size a file is hashed by the browser in one go; beyond, piece by piece in script. */
const WHOLE = 32 * 1024 * 1024;

/** An instance as it was read, or a picture with what it shows. */
export type StagedFile =
  | { readonly source: Source; readonly studyUid: string; readonly instanceUid: string }
  | { readonly source: Source; readonly use: PictureUse };

/** Write the item's two files, durably. Throws QuotaExceededError, NotReadableError and the like. */
export async function stage(
  job: StageJob,
  files: readonly StagedFile[],
  progress: (done: number, total: number) => void,
): Promise<Staged> {
  const total = files.reduce((sum, { source }) => sum + source.size, 0);
  const own = await folder(job.id);
  // A picture alone is put into a ZIP as well: its name stays here, and its kind is not given away.
  const kind = files.length === 1 && job.pictures.length === 0 ? 'file' : 'zip';
  const out = await openForWriting(own, BYTES);
  let staged: Written;
  try {
    out.truncate(0);
    staged = await writeBytes(out, files, kind, (done) => progress(done, total));
    out.flush();
  } finally {
    out.close();
  }
  const confirmation = await confirmationOf(job, staged);
  await writeDetails(own, {
    patient: job.typed?.patient ?? job.found.patient,
    studies: job.found.studies.map(({ files: _, ...study }) => study),
    confirmation,
  });
  const images = (confirmation.studies ?? []).reduce((sum, study) => sum + study.instances, 0);
  return { kind, bytes: staged.bytes, images: images + (confirmation.documents ?? []).length };
}

async function confirmationOf(job: StageJob, { hashed, pictures }: Written): Promise<Confirmation> {
  const typed = job.typed;
  return {
    studies: await confirmedStudies(hashed),
    impression: job.impression,
    priority: job.urgent ? 'urgent' : 'routine',
    destination: job.destination,
    ...(pictures.length > 0 && {
      documents: pictures,
      documents_study: typed === null ? (job.found.studies[0]?.studyUid ?? null) : null,
    }),
    ...(typed !== null && {
      patient: {
        name: typed.patient.name,
        id: typed.patient.id,
        birth_date: typed.patient.birthDate,
        sex: typed.patient.sex as '' | 'M' | 'F' | 'O',
      },
      study_date: typed.studyDate,
      body_part: typed.bodyPart,
    }),
  };
}

type HashedOf = HashedInstance & { readonly studyUid: string };

interface Written {
  readonly bytes: number;
  readonly hashed: readonly HashedOf[];
  readonly pictures: readonly { readonly sha256: string; readonly kind: PictureUse }[];
}

async function openForWriting(
  own: FileSystemDirectoryHandle,
  name: string,
): Promise<FileSystemSyncAccessHandle> {
  return (await own.getFileHandle(name, { create: true })).createSyncAccessHandle();
}

async function writeBytes(
  out: FileSystemSyncAccessHandle,
  files: readonly StagedFile[],
  kind: Staged['kind'],
  progress: (done: number) => void,
): Promise<Written> {
  const asZip = kind === 'zip';
  const names = memberNames(files.map((file) => ('use' in file ? 'picture' : file.source.path)));
  const members: ZipMember[] = [];
  const hashed: HashedOf[] = [];
  const pictures: { sha256: string; kind: PictureUse }[] = [];
  const known = new Set<string>();
  let at = 0;
  let read = 0;
  for (const [index, file] of files.entries()) {
    const { source } = file;
    const name = names[index] as string;
    const offset = at;
    const header = asZip ? localHeader({ name, size: source.size, crc: 0 }) : new Uint8Array(0);
    const copied = await copy(source, out, offset + header.length, (done) => progress(read + done));
    read += source.size;
    // A disc has some images twice: what comes next is written over the second one.
    const identity = `${'use' in file ? '' : file.instanceUid} ${copied.sha256}`;
    if (known.has(identity)) continue;
    known.add(identity);
    at += header.length + source.size;
    if (asZip) {
      const member = { name, size: source.size, crc: copied.crc, offset };
      writeAll(out, localHeader(member), offset);
      members.push(member);
    }
    if ('use' in file) pictures.push({ sha256: copied.sha256, kind: file.use });
    else hashed.push({ studyUid: file.studyUid, instanceUid: file.instanceUid, sha256: copied.sha256 });
  }
  if (asZip) at += writeAll(out, trailer(members, at), at);
  out.truncate(at);
  return { bytes: at, hashed, pictures };
}

/** Copy one file to `at`; return its checksum and its SHA-256 in hex. */
async function copy(
  source: Source,
  out: FileSystemSyncAccessHandle,
  at: number,
  progress: (done: number) => void,
): Promise<{ crc: number; sha256: string }> {
  if (source.size <= WHOLE) {
    const bytes = await whole(source);
    writeAll(out, bytes, at);
    progress(bytes.length);
    const digest = await crypto.subtle.digest('SHA-256', bytes as BufferSource);
    const crc = crc32(bytes);
    release(bytes.buffer);
    return { crc, sha256: toHex(new Uint8Array(digest)) };
  }
  const hash = sha256.create();
  let crc = 0;
  let done = 0;
  for await (const bytes of source.pieces()) {
    writeAll(out, bytes, at + done);
    crc = crc32(bytes, crc);
    hash.update(bytes);
    done += bytes.length;
    progress(done);
  }
  return { crc, sha256: toHex(hash.digest()) };
}

async function whole(source: Source): Promise<Uint8Array> {
  if (source.stretch !== null) return source.stretch(0, source.size);
  const bytes = new Uint8Array(source.size);
  let at = 0;
  for await (const piece of source.pieces()) {
    bytes.set(piece, at);
    at += piece.length;
  }
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
