/** When to work through the outbox: at once when something is new, else patiently, for as long as it takes. */

import { clientOf } from '../api/client';
import { listen } from '../api/events';
import { readHealth } from '../api/http';
import { askForBackgroundSync } from '../engine/background';
import type { Outcome } from '../engine/outbox';
import { hear, upload } from '../engine/uploader';
import { stayAwake } from '../engine/wake';
import { lookForDestinations, lookForTroubles } from './acting';
import { hasWork, type Link, onPoke, refresh, showProgress, showRest, useApp } from './store';

const set = useApp.setState;
const get = useApp.getState;

/** Seconds between tries while the node is not there: from, to. */
const AWAY_S = [2, 60] as const;
/** Seconds between questions while the node is at work; its events usually come first. */
const WORK_S = [1, 15] as const;
const IDLE_S = 30;

const LINKS: Readonly<Partial<Record<Outcome, Link>>> = {
  unreachable: 'unreachable',
  'locked-out': 'refused',
  elsewhere: 'elsewhere',
};

/** Start for the life of the page. */
export function startRunner(): void {
  let timer = 0;
  let running = false;
  let again = false;
  let tries = 0;
  let asked = false;

  function later([from, to]: readonly [number, number]): number {
    const seconds = Math.min(to, from * 1.6 ** tries);
    tries += 1;
    // Spread out, so that the phones of a clinic do not all ask at once when the power returns.
    return seconds * (0.75 + Math.random() / 2);
  }

  async function turn(): Promise<number> {
    if (get().device === null) return IDLE_S;
    const outcome = await reach().catch((): Outcome => 'unreachable');
    set({ link: LINKS[outcome] ?? 'reached' });
    if (outcome !== 'busy') showRest();
    await refresh();
    if (outcome === 'unreachable' || outcome === 'elsewhere') return later(AWAY_S);
    await lookForTroubles();
    // For the first study that is taken in away from the node.
    if (!asked) void lookForDestinations();
    asked = true;
    if (outcome !== 'rested' && outcome !== 'locked-out') return later(WORK_S);
    tries = 0;
    return IDLE_S;
  }

  async function run(): Promise<void> {
    if (running) {
      again = true;
      return;
    }
    running = true;
    clearTimeout(timer);
    set({ nextTry: null });
    // Whatever happens here, what waits on this device is tried again.
    const seconds = await turn().catch(() => IDLE_S);
    running = false;
    if (again) {
      again = false;
      void run();
      return;
    }
    if (get().link === 'unreachable') set({ nextTry: Date.now() + seconds * 1000 });
    // The browser gives up after some tries: with each of ours it is asked anew, should we be closed.
    if (hasWork(get())) void askForBackgroundSync();
    timer = window.setTimeout(() => void run(), seconds * 1000);
  }

  function now(): void {
    tries = 0;
    void run();
  }

  hear((news) => {
    if (news.type === 'progress') {
      // A line that brings anything is worth asking again soon.
      if (news.sent > 0) tries = 0;
      showProgress(news.id, news.sent, news.total);
    } else {
      void refresh();
    }
  });
  useApp.subscribe(({ activity }) => stayAwake(Object.keys(activity).length > 0));
  onPoke(now);
  window.addEventListener('online', now);
  window.addEventListener('offline', () => void run());
  window.addEventListener('pageshow', now);
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') now();
  });
  void followEvents(now);
  now();
}

async function reach(): Promise<Outcome> {
  // A line that is cut now and then must not look like a node that is away.
  set({ health: await readHealth().catch(() => readHealth()) });
  return upload(new AbortController().signal);
}

/** A line that ends at once must not be asked for at once, for ever. */
const EVENTS_PAUSE_MS = 5000;

/** Hear from the node what changed, for as long as it is there and somebody looks. */
async function followEvents(changed: () => void): Promise<never> {
  for (;;) {
    await until(() => {
      const { device, link, items } = get();
      return (
        device !== null && link === 'reached' && items.length > 0 && document.visibilityState === 'visible'
      );
    });
    const { device } = get();
    if (device !== null)
      await listen(clientOf(device), changed, new AbortController().signal).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, EVENTS_PAUSE_MS));
  }
}

function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    if (condition()) return resolve();
    const end = useApp.subscribe(() => {
      if (!condition()) return;
      end();
      resolve();
    });
  });
}
