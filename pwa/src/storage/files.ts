/**
 * The private file system of this origin (OPFS): the bytes of a study and what names the patient.
 * Each item of the outbox has a folder named by its random id, with two files. Deleting a file here
 * deletes a file, where a deleted record of IndexedDB lingers.
 */

import type { Confirmation } from '../api/types';
import type { FoundStudy, Patient } from '../domain/detection';

const ROOT = 'outbox';
export const BYTES = 'bytes';
export const DETAILS = 'details';

/** What names the patient: for the screen and for the confirmation, until the PACS has confirmed. */
export interface Details {
  readonly patient: Patient;
  readonly studies: readonly Omit<FoundStudy, 'files'>[];
  readonly confirmation: Confirmation;
}

export interface Files {
  bytes(id: string): Promise<File | undefined>;
  details(id: string): Promise<Details | undefined>;
  erase(id: string, what: typeof BYTES | typeof DETAILS): Promise<void>;
  eraseAll(id: string): Promise<void>;
  ids(): Promise<readonly string[]>;
}

async function root(): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
}

/** Return the folder of an item, made when it is not there. */
export async function folder(id: string): Promise<FileSystemDirectoryHandle> {
  return (await root()).getDirectoryHandle(id, { create: true });
}

async function read(id: string, name: string): Promise<File | undefined> {
  const own = await unlessMissing(async () => (await root()).getDirectoryHandle(id));
  return own && unlessMissing(async () => (await own.getFileHandle(name)).getFile());
}

async function unlessMissing<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return undefined;
    throw error;
  }
}

export const files: Files = {
  bytes: (id) => read(id, BYTES),
  details: async (id) => {
    const file = await read(id, DETAILS);
    return file && (JSON.parse(await file.text()) as Details);
  },
  erase: async (id, what) => {
    await unlessMissing(async () => (await (await root()).getDirectoryHandle(id)).removeEntry(what));
  },
  eraseAll: async (id) => {
    await unlessMissing(async () => (await root()).removeEntry(id, { recursive: true }));
  },
  ids: async () => {
    const found: string[] = [];
    for await (const name of (await root()).keys()) found.push(name);
    return found;
  },
};
