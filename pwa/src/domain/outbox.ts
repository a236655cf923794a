/**
 * The outbox: what this device holds for the clinic, as values.
 *
 * An item stores facts that stay true through a power cut ("the node has all bytes"), never what is
 * being done ("uploading"). `after` is the only way an item changes; `plan` says what is to be done
 * next. The engine does it. An item holds nothing of the patient: that lies in a file of its own,
 * which can be erased.
 */

export type StepName = 'phone' | 'clinic' | 'carried' | 'cloud' | 'pacs' | 'erased';

export interface JourneyStep {
  readonly step: StepName;
  readonly done: boolean;
  /** Unix milliseconds by the node's clock. */
  readonly at: number | null;
  readonly by: string | null;
}

/** A study on its way, as the node shows it. */
export interface EntryView {
  readonly id: string;
  readonly code: string;
  readonly state: string;
  readonly copies: number;
  readonly journey: readonly JourneyStep[];
  readonly trouble: string | null;
  /** Computers that said that they hold it, and have not been heard of for long. Not known to earlier versions. */
  readonly silent?: number;
  /** Why the delivery stands still, and how many seconds it may still take: as the node that delivers tells. */
  readonly setback?: string | null;
  readonly estimateS?: number | null;
}

export interface OutboxItem {
  /** The `client_id` of the submission, a random UUID. */
  readonly id: string;
  readonly kind: 'file' | 'zip';
  readonly bytes: number;
  readonly images: number;
  readonly modalities: readonly string[];
  readonly urgent: boolean;
  /** Unix milliseconds by this device's clock: for showing and for order among its own items. */
  readonly savedAt: number;
  /** The node's name for the submission. */
  readonly submission: string | null;
  /** Where uploads of the submission are created. */
  readonly uploads: string | null;
  /** The upload that takes the bytes. */
  readonly upload: string | null;
  readonly confirmed: boolean;
  readonly received: boolean;
  readonly kept: boolean;
  readonly entries: readonly EntryView[];
  /** Why a person must act: the node's code. Nothing more is tried then, but of what is in `TRIED_AGAIN`. */
  readonly problem: string | null;
  /** The node keeps files of it that could not be used, until a person says that they are not needed. */
  readonly leftover: boolean;
  /** Why the node keeps some of its studies and not the others: the node's code. */
  readonly partly: string | null;
  readonly bytesErased: boolean;
  readonly detailsErased: boolean;
}

/** These pass without a person: another node may know the archive; what is kept of it is to be followed. */
export const TRIED_AGAIN: ReadonlySet<string> = new Set(['destination-unknown', 'partly-kept']);

export type OutboxEvent =
  | { readonly type: 'announced'; readonly submission: string; readonly uploads: string }
  | { readonly type: 'confirmed' }
  | { readonly type: 'upload-created'; readonly upload: string }
  | { readonly type: 'bytes-missing' }
  | { readonly type: 'received' }
  | {
      readonly type: 'kept';
      readonly entries: readonly string[];
      readonly leftover: boolean;
      readonly partly?: string;
    }
  | { readonly type: 'leftover-erased' }
  | { readonly type: 'journey'; readonly entry: EntryView }
  | { readonly type: 'submission-unknown' }
  | { readonly type: 'problem'; readonly code: string }
  | { readonly type: 'try-again' }
  | { readonly type: 'bytes-erased' }
  | { readonly type: 'details-erased' };

export type NewItem = Pick<
  OutboxItem,
  'id' | 'kind' | 'bytes' | 'images' | 'modalities' | 'urgent' | 'savedAt'
>;

/** Return the item for a study that lies durably on this device and was confirmed by a person. */
export function saved(item: NewItem): OutboxItem {
  return {
    ...item,
    submission: null,
    uploads: null,
    upload: null,
    confirmed: false,
    received: false,
    kept: false,
    entries: [],
    problem: null,
    leftover: false,
    partly: null,
    bytesErased: false,
    detailsErased: false,
  };
}

/** Return a stored item as this version knows it: what an earlier version did not write has its first value. */
export function current(stored: NewItem & Partial<OutboxItem>): OutboxItem {
  return { ...saved(stored), ...stored };
}

const NOT_ANNOUNCED = { submission: null, uploads: null, upload: null, confirmed: false, received: false };

/** Return the item after `event`. */
export function after(item: OutboxItem, event: OutboxEvent): OutboxItem {
  switch (event.type) {
    case 'announced':
      return { ...item, submission: event.submission, uploads: event.uploads };
    case 'confirmed':
      return { ...item, confirmed: true, problem: null };
    case 'upload-created':
      return { ...item, upload: event.upload };
    case 'bytes-missing':
      return { ...item, received: false };
    case 'received':
      return { ...item, received: true };
    case 'kept':
      return {
        ...item,
        received: true,
        kept: true,
        problem: null,
        leftover: event.leftover,
        partly: event.partly ?? null,
        entries: event.entries.map((id) => known(item, id)),
      };
    case 'leftover-erased':
      return { ...item, leftover: false, partly: null };
    case 'journey':
      return { ...item, entries: item.entries.map((e) => (e.id === event.entry.id ? event.entry : e)) };
    case 'submission-unknown':
      // The node kept it and forgot the submission, or it lost it: only what is not kept is sent again.
      return item.kept ? item : { ...item, ...NOT_ANNOUNCED };
    case 'problem':
      return { ...item, problem: event.code };
    case 'try-again':
      return { ...item, problem: null };
    case 'bytes-erased':
      return { ...item, bytesErased: true };
    case 'details-erased':
      return { ...item, detailsErased: true };
  }
}

function known(item: OutboxItem, id: string): EntryView {
  const before = item.entries.find((entry) => entry.id === id);
  return before ?? { id, code: '', state: 'unknown', copies: 0, journey: [], trouble: null };
}

/** Return whether a step of the journey is done for the whole item. */
export function isDone(item: OutboxItem, step: StepName): boolean {
  if (step === 'phone') return true;
  if (step === 'clinic') return item.kept;
  return item.entries.length > 0 && item.entries.every((entry) => hasDone(entry, step));
}

function hasDone(entry: EntryView, step: StepName): boolean {
  // The PACS has a part of what was taken back: that is no confirmation.
  if (step === 'pacs' && isWithdrawn(entry)) return false;
  return entry.journey.some((known) => known.step === step && known.done);
}

/** Return whether a person ended the entry before the PACS had all of it. */
export function isWithdrawn(entry: EntryView): boolean {
  return entry.state === 'withdrawn' || entry.state === 'partly-delivered';
}

/** Return whether the entry has reached its end: confirmed by the PACS, or taken back. */
export function isSettled(entry: EntryView): boolean {
  return hasDone(entry, 'pacs') || isWithdrawn(entry);
}

/**
 * Return whether every study of the item has reached its end: confirmed by the PACS, or taken back. Of one that
 * is kept in part a person must have said that the others are not needed from here.
 */
export function isSettledItem(item: OutboxItem): boolean {
  return item.partly === null && item.entries.length > 0 && item.entries.every(isSettled);
}

/** Bytes may go when the clinic keeps the study and it is safe without this device. */
export function mayEraseBytes(item: OutboxItem): boolean {
  if (!item.kept || item.partly !== null) return false;
  return item.entries.length > 0 && item.entries.every((e) => e.copies >= 2 || isSettled(e));
}

/** Return whether nothing more is to be done for the item, here or anywhere. */
export function isAtItsEnd(item: OutboxItem): boolean {
  return plan(item) === 'rest';
}

export type Step =
  | 'announce'
  | 'confirm'
  | 'send'
  | 'ask'
  | 'follow'
  | 'erase-bytes'
  | 'erase-details'
  | 'rest';

/** Return what is to be done next for the item. */
export function plan(item: OutboxItem): Step {
  if (item.problem !== null && !TRIED_AGAIN.has(item.problem)) return 'rest';
  if (!item.kept) {
    if (item.submission === null) return 'announce';
    if (!item.confirmed) return 'confirm';
    return item.received ? 'ask' : 'send';
  }
  if (!item.bytesErased && mayEraseBytes(item)) return 'erase-bytes';
  if (!item.detailsErased && isSettledItem(item)) return 'erase-details';
  return item.entries.every((entry) => hasDone(entry, 'erased') || isWithdrawn(entry)) ? 'rest' : 'follow';
}

/** Return items in the order of sending: urgent first, then the longest waiting. */
export function inOrder(items: readonly OutboxItem[]): readonly OutboxItem[] {
  return [...items].sort((a, b) => Number(b.urgent) - Number(a.urgent) || a.savedAt - b.savedAt);
}
