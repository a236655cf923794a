/** The one store of the app: what the screens show, and what they can ask for. */

import { create } from 'zustand';
import { clientOf, enrol as enrolDevice } from '../api/client';
import { type Device, newKeys } from '../api/device';
import { Refused, Unreachable } from '../api/http';
import type { Detection, FoundPatient } from '../domain/detection';
import type { Activity } from '../domain/journey';
import { type OutboxItem, saved } from '../domain/outbox';
import { askForBackgroundSync } from '../engine/background';
import type { Picked } from '../engine/messages';
import { newReader, type Reader, ReadingFailed } from '../engine/reading';
import { withoutUploader } from '../engine/uploader';
import { bestLocale, type Language, type Locale, language } from '../i18n';
import { type Details, files } from '../storage/files';
import { records } from '../storage/records';
import { hashOf, type Route, routeOf } from './route';

/** `refused`: the node no longer takes this device. */
export type Link = 'unknown' | 'reached' | 'unreachable' | 'refused';

export interface Work {
  readonly done: number;
  readonly total: number;
}

export interface AppState {
  readonly ready: boolean;
  readonly device: Device | null;
  readonly route: Route;
  readonly language: Language;
  readonly link: Link;
  readonly items: readonly OutboxItem[];
  readonly details: Readonly<Record<string, Details>>;
  readonly activity: Readonly<Record<string, Activity>>;
  /** Reading what a person picked: null when nothing is being read. */
  readonly reading: Work | null;
  readonly detection: Detection | null;
  readonly readingFailed: boolean;
  readonly patient: FoundPatient | null;
  /** Copying onto this device: null when nothing is being copied. */
  readonly saving: Work | null;
  /** The name of the DOMException that ended the copying. */
  readonly savingFailed: string | null;
  readonly newVersion: (() => void) | null;
}

const LOCALE_KEY = 'locale';

export const useApp = create<AppState>(() => ({
  ready: false,
  device: null,
  route: routeOf(location.hash),
  language: language(
    bestLocale([localStorage.getItem(LOCALE_KEY) ?? '', ...navigator.languages]),
    navigator.languages,
  ),
  link: 'unknown',
  items: [],
  details: {},
  activity: {},
  reading: null,
  detection: null,
  readingFailed: false,
  patient: null,
  saving: null,
  savingFailed: null,
  newVersion: null,
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
  set({ activity: { ...get().activity, [id]: { sent, total } } });
}

/** Nothing is being sent any more. */
export function showRest(): void {
  set({ activity: {} });
}

export function go(route: Route): void {
  location.hash = hashOf(route);
  followAddress();
}

/** Go there with no way back: what was before has ended. */
function goForGood(route: Route): void {
  history.replaceState(null, '', hashOf(route));
  followAddress();
}

export function followAddress(): void {
  set({ route: routeOf(location.hash) });
}

export function speak(locale: Locale): void {
  localStorage.setItem(LOCALE_KEY, locale);
  set({ language: language(locale, navigator.languages) });
}

export type EnrolResult = 'enrolled' | 'wrong-code' | 'too-many' | 'unreachable' | 'failed';

/** The same code with the same key gives the same device, so an answer that was lost can be asked for again. */
let keys: Promise<CryptoKeyPair> | null = null;

/** Give this device a key and the node its public half. What waits in the outbox stays. */
export async function enrol(code: string, label: string): Promise<EnrolResult> {
  try {
    keys ??= newKeys();
    const device = await enrolDevice(code, label, await keys);
    await records.setDevice(device);
    keys = null;
    set({ device, link: 'reached' });
    poke();
    return 'enrolled';
  } catch (error) {
    if (error instanceof Unreachable) return 'unreachable';
    if (!(error instanceof Refused) || error.status >= 500) return 'failed';
    return error.status === 429 ? 'too-many' : 'wrong-code';
  }
}

let reader: Reader | null = null;

/** Read the picked files and show what is in them. */
export async function read(picking: Promise<readonly Picked[]> | readonly Picked[]): Promise<void> {
  forget();
  const own = newReader();
  reader = own;
  set({ reading: { done: 0, total: 0 } });
  go({ screen: 'select' });
  try {
    const detection = await own.detect(await picking, (done, total) => set({ reading: { done, total } }));
    if (reader !== own) return;
    set({ detection, reading: null });
    const [first, ...others] = detection.patients;
    if (first && others.length === 0) choose(first);
  } catch {
    if (reader === own) set({ reading: null, readingFailed: true });
  }
}

export function choose(patient: FoundPatient): void {
  set({ patient, savingFailed: null });
  go({ screen: 'confirm' });
}

/** Begin with an empty choice. */
export function start(): void {
  forget();
  go({ screen: 'select' });
}

/** Let go of what was picked: the files, and what was read of them. */
export function forget(): void {
  reader?.end();
  reader = null;
  set({
    reading: null,
    detection: null,
    readingFailed: false,
    patient: null,
    saving: null,
    savingFailed: null,
  });
}

const SAVING = 'saving';

/** Copy the confirmed studies onto this device; then they go on by themselves. */
export async function confirm(found: FoundPatient, impression: string, urgent: boolean): Promise<void> {
  const own = reader;
  if (own === null || get().saving !== null) return;
  const id = crypto.randomUUID();
  set({ saving: { done: 0, total: 0 }, savingFailed: null });
  try {
    await navigator.locks.request(SAVING, async () => {
      const progress = (done: number, total: number): void => set({ saving: { done, total } });
      const staged = await own.stage({ id, found, impression, urgent }, progress);
      const modalities = [...new Set(found.studies.flatMap((study) => study.modalities))];
      await records.add(saved({ id, ...staged, modalities, urgent, savedAt: Date.now() }));
    });
  } catch (error) {
    await files.eraseAll(id).catch(() => {});
    set({ saving: null, savingFailed: error instanceof ReadingFailed ? error.reason : nameOf(error) });
    return;
  }
  // Asked for when there is something to keep; browsers grant it by how much the app is used.
  void navigator.storage.persist?.();
  await refresh();
  goForGood({ screen: 'study', id });
  forget();
  void askForBackgroundSync();
  poke();
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : 'Error';
}

export type TakenBack = 'taken-back' | 'too-late' | 'unreachable';

/** Delete an item that the clinic does not keep, here and on the node. */
export async function takeBack(id: string): Promise<TakenBack> {
  return withoutUploader(async () => {
    const item = (await records.all()).find((known) => known.id === id);
    const { device } = get();
    if (item === undefined) return 'taken-back';
    if (item.kept) return 'too-late';
    if (item.submission !== null && device !== null) {
      try {
        await clientOf(device).remove(item.submission);
      } catch (error) {
        return error instanceof Refused ? 'too-late' : 'unreachable';
      }
    }
    await records.remove(id);
    await files.eraseAll(id);
    await refresh();
    return 'taken-back';
  });
}

export async function tryAgain(id: string): Promise<void> {
  await records.apply(id, { type: 'try-again' });
  await refresh();
  poke();
}
