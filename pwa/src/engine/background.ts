/** Uploading with no page open, where the browser has it (Chromium). Elsewhere the app goes on when opened. */

export const SYNC_TAG = 'outbox';

interface Syncing {
  readonly sync?: { register(tag: string): Promise<void> };
  readonly periodicSync?: { register(tag: string, options: { minInterval: number }): Promise<void> };
}

/** Ask the browser to run the outbox when there is a network, even when the app is closed. */
export async function askForBackgroundSync(): Promise<void> {
  const registration = (await navigator.serviceWorker?.getRegistration()) as Syncing | undefined;
  try {
    await registration?.sync?.register(SYNC_TAG);
    // Granted to installed apps only; not more often than the browser likes, at best twice a day.
    await registration?.periodicSync?.register(SYNC_TAG, { minInterval: 12 * 3600 * 1000 });
  } catch {
    // A browser that refuses it leaves us where browsers without it are.
  }
}

/** Return whether uploads go on after the app is closed. */
export function hasBackgroundSync(): boolean {
  return 'SyncManager' in self;
}
