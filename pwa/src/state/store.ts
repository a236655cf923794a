/** The one store of the app: what the screens show. What they can ask for is in `choosing` and `acting`. */

import { create } from 'zustand';
import type { Device } from '../api/device';
import type { Health, Troubled } from '../api/types';
import { enrolCodeOf } from '../domain/codes';
import type { Destination } from '../domain/destinations';
import type { Detection, FoundPatient } from '../domain/detection';
import { isAtItsEnd, type OutboxItem } from '../domain/outbox';
import { type Pace, paced } from '../domain/pace';
import { type Language, LOADED, type Locale, languageOf } from '../i18n';
import { remembered } from '../storage/destinations';
import { type Details, files } from '../storage/files';
import { records } from '../storage/records';
import { hashOf, type Route, routeOf } from './route';

/** `refused`: the node no longer takes this device. `elsewhere`: a node of another mesh answers here. */
export type Link = 'unknown' | 'reached' | 'unreachable' | 'refused' | 'elsewhere';

export interface Work {
  readonly done: number;
  readonly total: number;
}

export interface AppState {
  readonly ready: boolean;
  readonly device: Device | null;
  readonly route: Route;
  /** An enrolment code that came with the address. */
  readonly scanned: string | null;
  readonly language: Language;
  readonly link: Link;
  /** The node that answered last. */
  readonly health: Health | null;
  /** When the node is asked again by itself, in milliseconds since 1970; null while it is there. */
  readonly nextTry: number | null;
  readonly items: readonly OutboxItem[];
  readonly details: Readonly<Record<string, Details>>;
  readonly activity: Readonly<Record<string, Pace>>;
  /** Studies of the mesh that need a decision; for who may decide. */
  readonly troubles: readonly Troubled[];
  /** The PACS that the mesh knows, as the node said last. */
  readonly destinations: readonly Destination[];
  /** Reading what a person picked: null when nothing is being read. */
  readonly reading: Work | null;
  readonly detection: Detection | null;
  readonly previews: ReadonlyMap<number, Blob>;
  readonly readingFailed: boolean;
  readonly patient: FoundPatient | null;
  /** Copying onto this device: null when nothing is being copied. */
  readonly saving: Work | null;
  /** The name of the DOMException that ended the copying. */
  readonly savingFailed: string | null;
  readonly newVersion: (() => void) | null;
  /** Ask the browser to install the app; null where it does not offer that. */
  readonly install: (() => void) | null;
}

export const LOCALE_KEY = 'locale';

export const useApp = create<AppState>(() => ({
  ready: false,
  device: null,
  route: { screen: 'home' },
  scanned: null,
  language: LOADED,
  link: 'unknown',
  health: null,
  nextTry: null,
  items: [],
  details: {},
  activity: {},
  troubles: [],
  destinations: remembered.known(),
  reading: null,
  detection: null,
  previews: new Map(),
  readingFailed: false,
  patient: null,
  saving: null,
  savingFailed: null,
  newVersion: null,
  install: null,
}));

const set = useApp.setState;
const get = useApp.getState;

/** Called when there is something new to upload; set by the runner. */
let poke: () => void = () => {};

export function onPoke(action: () => void): void {
  poke = action;
}

export function tryNow(): void {
  poke();
}

/** Held while files are copied onto this device, so that no other page takes them for leftovers. */
export const SAVING = 'saving';

/** Read what this device holds. Folders that no record names are the rest of an interrupted saving. */
export async function open(): Promise<void> {
  const device = (await records.device()) ?? null;
  await navigator.locks.request(SAVING, { ifAvailable: true }, async (lock) => {
    if (lock === null) return;
    const known = new Set((await records.all()).map(({ id }) => id));
    const strays = (await files.ids()).filter((id) => !known.has(id));
    await Promise.all(strays.map((id) => files.eraseAll(id)));
  });
  await refresh();
  set({ ready: true, device });
}

/** Read the outbox again, and the names of those patients that are still here. */
export async function refresh(): Promise<void> {
  const items = await records.all();
  const named = await Promise.all(
    items.filter((item) => !item.detailsErased).map(async ({ id }) => [id, await files.details(id)] as const),
  );
  const details = Object.fromEntries(
    named.filter((pair): pair is [string, Details] => pair[1] !== undefined),
  );
  const activity = Object.fromEntries(
    Object.entries(get().activity).filter(([id]) => items.some((item) => item.id === id && !item.received)),
  );
  set({ items, details, activity });
}

export function showProgress(id: string, sent: number, total: number): void {
  const { activity } = get();
  set({ activity: { ...activity, [id]: paced(activity[id], sent, total, performance.now()) } });
}

/** Nothing is being sent any more. */
export function showRest(): void {
  set({ activity: {} });
}

/** Return whether a person or the app is in the middle of something that a reload would cost. */
export function isBusy({ reading, detection, saving, activity }: AppState): boolean {
  return reading !== null || detection !== null || saving !== null || Object.keys(activity).length > 0;
}

/** Return whether anything on this device still has a way to go. */
export function hasWork({ items }: AppState): boolean {
  return items.some((item) => !isAtItsEnd(item));
}

export function go(route: Route): void {
  location.hash = hashOf(route);
  followAddress();
}

/** Go there with no way back: what was before has ended. */
export function goForGood(route: Route): void {
  history.replaceState(null, '', hashOf(route));
  followAddress();
}

export function followAddress(): void {
  const scanned = enrolCodeOf(location.hash);
  if (scanned !== null) {
    // A code leaves the address at once: addresses are kept, shared and synchronised.
    history.replaceState(null, '', '#/enrol');
    set({ scanned });
  }
  set({ route: routeOf(location.hash) });
}

export async function speak(locale: Locale): Promise<void> {
  const language = await languageOf(locale, navigator.languages);
  localStorage.setItem(LOCALE_KEY, locale);
  set({ language });
}
