/** From pickers and drops to a flat list of files. */

import type { Picked } from './messages';

/** Return the files of an `<input type="file">`, a folder's with their paths in it. */
export function fromInput(list: FileList): readonly Picked[] {
  return Array.from(list, (file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/** Return all files of a drop, folders walked through. Call it in the event: the items die after it. */
export async function fromDrop(transfer: DataTransfer): Promise<readonly Picked[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter(
    (entry) => entry !== null,
  );
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry: FileSystemEntry): Promise<readonly Picked[]> {
  if (isFile(entry)) {
    const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, '') }];
  }
  const found: Picked[] = [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // Chromium gives at most a hundred entries at once; an empty answer is the end.
  for (let some = await readSome(reader); some.length > 0; some = await readSome(reader)) {
    found.push(...(await Promise.all(some.map(walk))).flat());
  }
  return found;
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function readSome(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}
