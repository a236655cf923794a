/** What a person can do about the device, and about studies that are here already. */

import { clientOf, enrol as enrolDevice } from '../api/client';
import { newKeys } from '../api/device';
import { Refused, Unreachable } from '../api/http';
import type { Decision, DeviceCode, Submission } from '../api/types';
import type { OutboxItem } from '../domain/outbox';
import { withoutUploader } from '../engine/uploader';
import { remembered } from '../storage/destinations';
import { files } from '../storage/files';
import { records } from '../storage/records';
import { refresh, tryNow, useApp } from './store';

const set = useApp.setState;
const get = useApp.getState;

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
    tryNow();
    return 'enrolled';
  } catch (error) {
    if (error instanceof Unreachable) return 'unreachable';
    if (!(error instanceof Refused) || error.status >= 500) return 'failed';
    return error.status === 429 ? 'too-many' : 'wrong-code';
  }
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
        const client = clientOf(device);
        // Some of its studies may be kept, and this device has not heard of it yet.
        if ((await client.submission(item.submission)).entries.length > 0) return 'too-late';
        await client.remove(item.submission);
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

export type Withdrawn = 'withdrawn' | 'may-not' | 'unreachable';

/** End a study that the clinic keeps, before the hospital has it; `person` says who took it back. */
export async function withdraw(item: OutboxItem, person: string, reason: string): Promise<Withdrawn> {
  const { device } = get();
  if (device === null) return 'may-not';
  try {
    for (const { id } of item.entries) await clientOf(device).withdraw(id, { person, reason });
  } catch (error) {
    return error instanceof Refused ? 'may-not' : 'unreachable';
  }
  tryNow();
  return 'withdrawn';
}

export async function tryAgain(id: string): Promise<void> {
  await records.apply(id, { type: 'try-again' });
  await refresh();
  tryNow();
}

/** Return what the node says of an item's submission; null when it cannot be asked now. */
export async function submissionOf(item: OutboxItem): Promise<Submission | null> {
  const { device } = get();
  if (device === null || item.submission === null) return null;
  return clientOf(device)
    .submission(item.submission)
    .catch(() => null);
}

/** Confirm what arrived in place of what was confirmed here: of the same studies, and no others. */
export async function confirmArrived(item: OutboxItem, arrived: Submission): Promise<boolean> {
  const { device, details } = get();
  const confirmed = details[item.id]?.confirmation;
  if (device === null || confirmed === undefined || item.submission === null) return false;
  const wanted = new Set(confirmed.studies.map((study) => study.study_uid));
  const studies = (arrived.examination?.studies ?? [])
    .filter((study) => wanted.has(study.study_uid))
    .map(({ study_uid, digest, instances }) => ({ study_uid, digest, instances }));
  const here = new Set((arrived.examination?.documents ?? []).map(({ sha256 }) => sha256));
  const documents = (confirmed.documents ?? []).filter(({ sha256 }) => here.has(sha256));
  try {
    await clientOf(device).confirm(item.submission, {
      ...confirmed,
      studies,
      ...(documents.length > 0 || confirmed.documents ? { documents } : {}),
    });
  } catch {
    return false;
  }
  await tryAgain(item.id);
  return true;
}

/** Say that the files which could not be used are not needed. */
export async function eraseLeftover(item: OutboxItem): Promise<boolean> {
  const { device } = get();
  if (device === null || item.submission === null) return false;
  try {
    await clientOf(device).remove(item.submission);
  } catch (error) {
    // Nothing is left of it there: somebody decided about it already.
    if (!(error instanceof Refused) || ![404, 409, 410].includes(error.status)) return false;
  }
  await records.apply(item.id, { type: 'leftover-erased' });
  await refresh();
  return true;
}

/** Ask what waits for a decision; only for who may decide. */
export async function lookForTroubles(): Promise<void> {
  const { device } = get();
  if (device?.role !== 'admin') return;
  set({ troubles: await clientOf(device).troubles() });
}

/** Ask which PACS there are; kept for when the node is not in reach. */
export async function lookForDestinations(): Promise<void> {
  const { device } = get();
  if (device === null) return;
  try {
    const destinations = await clientOf(device).destinations();
    remembered.setKnown(destinations);
    if (destinations.length > 0) set({ destinations });
  } catch {
    // What was known before stays.
  }
}

/** Sign a decision about a study that needs one; the error's code when it was not taken. */
export async function decide(decision: Decision): Promise<string | null> {
  const { device } = get();
  if (device === null) return 'not-enrolled';
  try {
    await clientOf(device).decide(decision);
    return null;
  } catch (error) {
    return error instanceof Refused ? error.code : 'unreachable';
  }
}

/** Ask for a code that lets one more device in; null when the node does not give one. */
export async function deviceCode(): Promise<DeviceCode | null> {
  const { device } = get();
  if (device === null) return null;
  return clientOf(device)
    .newDeviceCode()
    .catch(() => null);
}
