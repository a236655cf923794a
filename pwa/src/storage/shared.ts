/**
 * What another app shared with this one, on its way from the service worker to the page.
 *
 * A share arrives as a form that only the service worker sees. Its files wait in the private file system
 * until they were confirmed, or until the app is opened the next time without them.
 */

import type { Picked } from '../engine/messages';

const FOLDER = 'shared';

const root = (): Promise<FileSystemDirectoryHandle> => navigator.storage.getDirectory();

export const shared = {
  /** Put the files of a form there, in place of earlier ones. Only where `createWritable` is. */
  async put(files: readonly File[]): Promise<void> {
    await shared.erase();
    const own = await (await root()).getDirectoryHandle(FOLDER, { create: true });
    for (const [index, file] of files.entries()) {
      // The name stands in the private file system alone; it may be a patient's.
      const handle = await own.getFileHandle(`${index} ${file.name.replaceAll(/[/\\]/g, '_')}`, {
        create: true,
      });
      await file.stream().pipeTo(await handle.createWritable());
    }
  },

  async all(): Promise<readonly Picked[]> {
    const picked: Picked[] = [];
    try {
      const own = await (await root()).getDirectoryHandle(FOLDER);
      for await (const handle of own.values()) {
        if (handle.kind !== 'file') continue;
        const file = await (handle as FileSystemFileHandle).getFile();
        picked.push({ file, path: handle.name.replace(/^\d+ /, '') });
      }
    } catch {
      // Nothing was shared.
    }
    return picked;
  },

  async erase(): Promise<void> {
    await (await root()).removeEntry(FOLDER, { recursive: true }).catch(() => {});
  },
};
