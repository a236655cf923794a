/** The service worker: keeps the app for when there is no network, and uploads when no page is open. */

import { cleanupOutdatedCaches, createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching';
import { NavigationRoute, registerRoute } from 'workbox-routing';
import { SYNC_TAG } from './engine/background';
import { uploadAfterOthers } from './engine/uploader';
import { shared } from './storage/shared';

declare const self: ServiceWorkerGlobalScope & {
  readonly __WB_MANIFEST: { url: string; revision: string | null }[];
};

interface SyncEvent extends ExtendableEvent {
  readonly tag: string;
}

/** Chromium ends a sync after three minutes; ended by ourselves, the last piece is not lost. */
const SYNC_MS = 150_000;

precacheAndRoute(self.__WB_MANIFEST);
cleanupOutdatedCaches();
registerRoute(
  new NavigationRoute(createHandlerBoundToURL('index.html'), {
    denylist: [/^\/(api|oauth)\//, /^\/(healthz|readyz|metrics|openapi\.json|docs|redoc)/],
  }),
);

// What another app shares (manifest, `share_target`) comes as a form, which no server may ever see.
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'POST' || new URL(request.url).pathname !== '/share') return;
  event.respondWith(takeShared(request));
});

async function takeShared(request: Request): Promise<Response> {
  const form = await request.formData();
  await shared.put(form.getAll('files').filter((part): part is File => part instanceof File));
  return Response.redirect('/#/shared', 303);
}

// The page that installed it is served by it from now on: parts that are loaded later are there offline, too.
self.addEventListener('activate', (event) => {
  event.waitUntil(self.clients.claim());
});

// A new version waits until a person asks for it: never in the middle of a form.
self.addEventListener('message', (event) => {
  if (event.data === 'use-new-version') void self.skipWaiting();
});

/** The browser asks again after five minutes at the earliest, so a line that was cut is tried here first. */
const AGAIN_MS = 2000;

async function uploadInBackground(): Promise<void> {
  const end = AbortSignal.timeout(SYNC_MS);
  for (let wait = AGAIN_MS; ; wait *= 2) {
    const outcome = await uploadAfterOthers(end);
    if (outcome !== 'unreachable' && outcome !== 'to-be-continued') return;
    // A rejected sync is repeated by the browser.
    if (outcome === 'to-be-continued' || end.aborted) throw new Error(outcome);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

for (const kind of ['sync', 'periodicsync']) {
  self.addEventListener(kind as 'message', (event) => {
    const sync = event as unknown as SyncEvent;
    if (sync.tag === SYNC_TAG) sync.waitUntil(uploadInBackground());
  });
}
