/** What a person is told of an item: one sentence, a chain of steps, two lines about safety. */

import {
  isDone,
  isSettled,
  isSettledItem,
  isWithdrawn,
  type OutboxItem,
  type StepName,
  TRIED_AGAIN,
} from './outbox';

/** `act` is the only tone that is shown in red: a person must do something. */
export type Tone = 'quiet' | 'moving' | 'done' | 'act';

export interface Sentence {
  readonly key: SentenceKey;
  readonly tone: Tone;
  readonly values: Readonly<Record<string, string | number>>;
}

export type SentenceKey =
  | 'journey.problem'
  | 'journey.trouble'
  | 'journey.withdrawn'
  | 'journey.recalled'
  | 'journey.erased'
  | 'journey.confirmed'
  | 'journey.cloud'
  | 'journey.carried'
  | 'journey.carriedBy'
  | 'journey.clinic'
  | 'journey.clinicCopies'
  | 'journey.checking'
  | 'journey.sending'
  | 'journey.saved';

/** The steps in their order; a PACS that confirms has passed all before it. */
export const CHAIN: readonly StepName[] = ['phone', 'clinic', 'carried', 'cloud', 'pacs', 'erased'];

export interface ChainStep {
  readonly step: StepName;
  readonly state: 'done' | 'now' | 'ahead' | 'passed-by';
  readonly at: number | null;
  readonly by: string | null;
}

/** Return the chain of an item. A step that was not needed, such as carrying, is passed by. */
export function chain(item: OutboxItem): readonly ChainStep[] {
  const done = CHAIN.map((step) => isDone(item, step));
  const last = done.lastIndexOf(true);
  return CHAIN.map((step, index) => ({
    step,
    state: done[index] ? 'done' : index < last ? 'passed-by' : index === last + 1 ? 'now' : 'ahead',
    ...(step === 'phone' ? { at: item.savedAt, by: null } : latest(item, step)),
  }));
}

function latest(item: OutboxItem, step: StepName): { at: number | null; by: string | null } {
  const found = item.entries.flatMap((entry) => entry.journey.filter((s) => s.step === step && s.done));
  const times = found.map((s) => s.at).filter((at) => at !== null);
  return {
    at: times.length > 0 ? Math.max(...times) : null,
    by: found.find((s) => s.by !== null)?.by ?? null,
  };
}

/** Return how many copies there are of the study that has the fewest. */
export function copies(item: OutboxItem): number {
  return item.entries.length === 0 ? 0 : Math.min(...item.entries.map((entry) => entry.copies));
}

/** Return the one sentence that says where the item is. */
export function sentence(item: OutboxItem, sending: boolean): Sentence {
  const say = (key: SentenceKey, tone: Tone, values: Sentence['values'] = {}): Sentence => ({
    key,
    tone,
    values,
  });
  if (item.problem !== null && !TRIED_AGAIN.has(item.problem)) return say('journey.problem', 'act');
  if (item.kept && item.entries.length > 0) {
    if (isSettledItem(item) && item.entries.some(isWithdrawn)) return say('journey.withdrawn', 'quiet');
    if (item.entries.some((entry) => entry.state === 'recalled')) return say('journey.recalled', 'moving');
    if (isDone(item, 'pacs'))
      return say(isDone(item, 'erased') ? 'journey.erased' : 'journey.confirmed', 'done');
    if (item.entries.some((entry) => entry.trouble !== null)) return say('journey.trouble', 'act');
    if (isDone(item, 'cloud')) return say('journey.cloud', 'moving');
    if (isDone(item, 'carried')) {
      const { by } = latest(item, 'carried');
      return by === null ? say('journey.carried', 'moving') : say('journey.carriedBy', 'moving', { by });
    }
    const count = copies(item);
    return count >= 2 ? say('journey.clinicCopies', 'moving', { count }) : say('journey.clinic', 'moving');
  }
  if (item.received) return say('journey.checking', 'moving');
  if (sending) return say('journey.sending', 'moving');
  return say('journey.saved', 'quiet');
}

/** One more sentence about a study that is still on its way: what holds it up, or how long it may take. */
export type Aside =
  | { readonly key: 'aside.no-network' | 'aside.pacs-busy' | 'aside.credentials' | 'aside.study' }
  | { readonly key: 'aside.silent'; readonly count: number }
  | { readonly key: 'aside.estimate'; readonly seconds: number };

const SETBACKS = ['no-network', 'pacs-busy', 'credentials', 'study'] as const;

/** Return what is to be said besides the sentence, if anything; a person who must act hears that alone. */
export function aside(item: OutboxItem): Aside | null {
  if (!item.kept || item.problem !== null || isSettledItem(item)) return null;
  const open = item.entries.filter((entry) => !isSettled(entry) && entry.trouble === null);
  const setback = SETBACKS.find((known) => open.some((entry) => entry.setback === known));
  if (setback !== undefined) return { key: `aside.${setback}` };
  const count = Math.max(0, ...open.map((entry) => entry.silent ?? 0));
  if (count > 0) return { key: 'aside.silent', count };
  const estimates = open.map((entry) => entry.estimateS ?? null);
  const known = estimates.filter((seconds) => seconds !== null);
  if (known.length === 0 || known.length < estimates.length) return null;
  return { key: 'aside.estimate', seconds: Math.max(...known) };
}

/**
 * What is said about closing the app: `goes-on` by itself, `stay` while bytes go in a browser that sends
 * nothing once it is closed, `reopen` when such a browser waits, `done` when this device is not needed.
 */
export type Closing = 'done' | 'goes-on' | 'stay' | 'reopen';

/** Return which of the two safety lines hold. The CD may go once the clinic's computer keeps the study. */
export function safety(
  item: OutboxItem,
  { background, sending }: { readonly background: boolean; readonly sending: boolean },
): { readonly closing: Closing; readonly removeMedium: boolean } {
  const closing = item.kept ? 'done' : background ? 'goes-on' : sending ? 'stay' : 'reopen';
  return { closing, removeMedium: item.kept && item.partly === null };
}
