/** From picked files to a study that lies durably on this device. */

import type { FoundPatient, Patient } from '../domain/detection';
import { saved } from '../domain/outbox';
import { type ChosenPicture, modalitiesOf } from '../domain/pictures';
import { askForBackgroundSync } from '../engine/background';
import type { Picked, StageJob } from '../engine/messages';
import { newReader, type Reader, ReadingFailed } from '../engine/reading';
import { remembered } from '../storage/destinations';
import { files } from '../storage/files';
import { records } from '../storage/records';
import { shared } from '../storage/shared';
import { lookForDestinations } from './acting';
import { go, goForGood, refresh, SAVING, tryNow, useApp } from './store';

const set = useApp.setState;

let reader: Reader | null = null;

/** What stands for the patient while only pictures are there: a person types the rest. */
const NOBODY: Patient = { name: '', id: '', birthDate: '', sex: '' };
export const PICTURES_ONLY: FoundPatient = { key: 'pictures', patient: NOBODY, studies: [] };

/** Read the picked files and show what is in them. */
export async function read(picking: Promise<readonly Picked[]> | readonly Picked[]): Promise<void> {
  forget();
  const own = newReader();
  reader = own;
  void lookForDestinations();
  set({ reading: { done: 0, total: 0 } });
  go({ screen: 'select' });
  try {
    const found = await own.detect(await picking, (done, total) => set({ reading: { done, total } }));
    if (reader !== own) return;
    const { detection, previews } = found;
    set({ detection, previews, reading: null });
    const [first, ...others] = detection.patients;
    if (first && others.length === 0) choose(first);
    if (!first && detection.pictures.length > 0) choose(PICTURES_ONLY);
  } catch {
    if (reader === own) set({ reading: null, readingFailed: true });
  }
}

/** Read what another app shared with this one. */
export async function readShared(): Promise<void> {
  const picked = await shared.all();
  if (picked.length === 0) return goForGood({ screen: 'home' });
  goForGood({ screen: 'select' });
  await read(picked);
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
    previews: new Map(),
    readingFailed: false,
    patient: null,
    saving: null,
    savingFailed: null,
  });
}

export type Choice = Pick<StageJob, 'found' | 'pictures' | 'typed' | 'impression' | 'urgent' | 'destination'>;

/** Copy what was confirmed onto this device; then it goes on by itself. */
export async function confirm(choice: Choice): Promise<void> {
  const own = reader;
  if (own === null || useApp.getState().saving !== null) return;
  const id = crypto.randomUUID();
  set({ saving: { done: 0, total: 0 }, savingFailed: null });
  try {
    await navigator.locks.request(SAVING, async () => {
      const progress = (done: number, total: number): void => set({ saving: { done, total } });
      const staged = await own.stage({ id, ...choice }, progress);
      const { urgent } = choice;
      await records.add(
        saved({ id, ...staged, modalities: modalities(choice), urgent, savedAt: Date.now() }),
      );
    });
  } catch (error) {
    await files.eraseAll(id).catch(() => {});
    set({ saving: null, savingFailed: error instanceof ReadingFailed ? error.reason : nameOf(error) });
    return;
  }
  if (choice.destination !== null) remembered.setLast(choice.destination);
  // Asked for when there is something to keep; browsers grant it by how much the app is used.
  void navigator.storage.persist?.();
  await refresh();
  goForGood({ screen: 'study', id });
  forget();
  void shared.erase();
  void askForBackgroundSync();
  tryNow();
}

function modalities({ found, pictures }: Choice): readonly string[] {
  const chosen: readonly ChosenPicture[] = pictures;
  return [...new Set([...found.studies.flatMap((study) => study.modalities), ...modalitiesOf(chosen)])];
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : 'Error';
}
