import { expect, test } from 'vitest';
import { aside, chain, safety, sentence } from './journey';
import {
  after,
  current,
  type EntryView,
  inOrder,
  isSettledItem,
  mayEraseBytes,
  type OutboxEvent,
  type OutboxItem,
  plan,
  type StepName,
  saved,
} from './outbox';

const NEW = saved({
  id: 'c',
  kind: 'zip',
  bytes: 10,
  images: 2,
  modalities: ['CT'],
  urgent: false,
  savedAt: 1,
});

function entry(done: readonly StepName[], more: Partial<EntryView> = {}): EntryView {
  const steps: readonly StepName[] = ['phone', 'clinic', 'carried', 'cloud', 'pacs', 'erased'];
  const journey = steps.map((step) => ({
    step,
    done: done.includes(step),
    at: null,
    by: step === 'carried' ? 'Asha' : null,
  }));
  return { id: 'e', code: 'K7F-2QX', state: 'waiting', copies: 1, journey, trouble: null, ...more };
}

function play(...events: readonly OutboxEvent[]): OutboxItem {
  return events.reduce(after, NEW);
}

const KEPT: readonly OutboxEvent[] = [
  { type: 'announced', submission: 's', uploads: '/u' },
  { type: 'confirmed' },
  { type: 'received' },
  { type: 'kept', entries: ['e'], leftover: false },
];
const at = (view: EntryView): OutboxItem => play(...KEPT, { type: 'journey', entry: view });

/** The person confirms once, offline; the order on the wire follows from the item alone. */
test('a saved study is announced, confirmed, sent, asked for and followed, in this order', () => {
  const steps = KEPT.map((_, n) => plan(play(...KEPT.slice(0, n))));

  expect(steps).toEqual(['announce', 'confirm', 'send', 'ask']);
  expect(plan(play(...KEPT))).toBe('follow');
});

/** While one computer alone has the study, this device is the second copy. */
test('bytes stay here until there are two copies or the PACS has confirmed', () => {
  expect(mayEraseBytes(play(...KEPT))).toBe(false);
  expect(mayEraseBytes(at(entry(['clinic'])))).toBe(false);
  expect(mayEraseBytes(at(entry(['clinic'], { copies: 2 })))).toBe(true);
  expect(mayEraseBytes(at(entry(['clinic', 'pacs'])))).toBe(true);
});

test('one of two studies without a second copy keeps the bytes of both', () => {
  const two = play(
    ...KEPT.slice(0, 3),
    { type: 'kept', entries: ['e', 'f'], leftover: false },
    { type: 'journey', entry: entry([], { copies: 3 }) },
  );

  expect(mayEraseBytes(two)).toBe(false);
});

/** The name is wanted on the screen until the hospital has the study, and not a moment longer. */
test('what names the patient goes when the PACS has confirmed', () => {
  const carried = after(at(entry(['clinic', 'carried'], { copies: 2 })), { type: 'bytes-erased' });
  const confirmed = after(carried, {
    type: 'journey',
    entry: entry(['clinic', 'carried', 'pacs'], { copies: 2 }),
  });

  expect(plan(carried)).toBe('follow');
  expect(plan(confirmed)).toBe('erase-details');
  expect(plan(after(confirmed, { type: 'details-erased' }))).toBe('follow');
});

test('a study that is erased everywhere needs nothing more', () => {
  const over = at(entry(['clinic', 'pacs', 'erased']));

  expect(plan(after(after(over, { type: 'bytes-erased' }), { type: 'details-erased' }))).toBe('rest');
});

/** A node set up anew has forgotten the submission: the study must not wait for ever. */
test('a submission that the node does not know is announced again, unless it was kept', () => {
  const sent = play(...KEPT.slice(0, 3), { type: 'submission-unknown' });

  expect(plan(sent)).toBe('announce');
  expect(after(play(...KEPT), { type: 'submission-unknown' }).kept).toBe(true);
});

test('a problem rests until a person acts', () => {
  const stuck = play({ type: 'problem', code: 'no-dicom' });

  expect(plan(stuck)).toBe('rest');
  expect(plan(after(stuck, { type: 'try-again' }))).toBe('announce');
});

/** Hearing the same again must not change what is known. */
test('being told twice is being told once', () => {
  for (const event of KEPT) expect(after(after(NEW, event), event)).toEqual(after(NEW, event));
});

test('urgent goes first, then the longest waiting', () => {
  const item = (id: string, savedAt: number, urgent: boolean): OutboxItem => ({
    ...NEW,
    id,
    savedAt,
    urgent,
  });

  expect(inOrder([item('b', 2, false), item('a', 1, false), item('u', 3, true)]).map((i) => i.id)).toEqual([
    'u',
    'a',
    'b',
  ]);
});

/** Red is kept for what a person must do; being offline is no fault. */
test('waiting without a network is quiet, and only trouble calls a person', () => {
  expect(sentence(NEW, false)).toMatchObject({ key: 'journey.saved', tone: 'quiet' });
  expect(sentence(NEW, true)).toMatchObject({ key: 'journey.sending', tone: 'moving' });
  expect(sentence(at(entry(['clinic'], { trouble: 'conflict' })), false)).toMatchObject({ tone: 'act' });
});

test('one sentence more says what holds a study up, or how long it may take', () => {
  const said = (more: Partial<EntryView>) => aside(at(entry(['clinic', 'cloud'], more)));

  expect(said({})).toBeNull();
  expect(said({ estimateS: 240 })).toEqual({ key: 'aside.estimate', seconds: 240 });
  expect(said({ silent: 2, estimateS: 240 })).toEqual({ key: 'aside.silent', count: 2 });
  expect(said({ setback: 'pacs-busy', silent: 2 })).toEqual({ key: 'aside.pacs-busy' });
  expect(said({ setback: 'of a later version' })).toBeNull();
  // Whoever must act hears that alone, and of what has arrived nothing is held up.
  expect(said({ setback: 'study', trouble: 'conflict' })).toBeNull();
  expect(aside(at(entry(['clinic', 'pacs'], { silent: 1 })))).toBeNull();
});

test('the sentence names who carries the study', () => {
  expect(sentence(at(entry(['clinic', 'carried'])), false)).toMatchObject({
    key: 'journey.carriedBy',
    values: { by: 'Asha' },
  });
});

/** A study delivered straight from the clinic never travels: that step must not look unfinished. */
test('a step that was not needed is passed by', () => {
  expect(chain(at(entry(['clinic', 'cloud', 'pacs']))).map((step) => step.state)).toEqual([
    'done',
    'done',
    'passed-by',
    'done',
    'done',
    'now',
  ]);
});

/** The node counts a part that arrived before the withdrawal as arrived: the hospital has not confirmed the study. */
test('a study that was taken back half-way is not called confirmed', () => {
  const partly = at(entry(['clinic', 'cloud', 'pacs'], { state: 'partly-delivered' }));

  expect(sentence(partly, false).key).toBe('journey.withdrawn');
  expect(chain(partly).find(({ step }) => step === 'pacs')?.state).not.toBe('done');
  expect(plan(partly)).toBe('erase-bytes');
});

test('a study that the hospital lost is said to be sent again', () => {
  const lost = at(entry(['clinic', 'cloud', 'pacs'], { state: 'recalled' }));

  expect(sentence(lost, false)).toMatchObject({ key: 'journey.recalled', tone: 'moving' });
});

/** Not before: the phone may be lost on the way to the desk. */
test('the CD may be removed when the clinic keeps the study', () => {
  const background = { background: true, sending: true };

  expect(safety(NEW, background)).toEqual({ closing: 'goes-on', removeMedium: false });
  expect(safety(play(...KEPT), background)).toEqual({ closing: 'done', removeMedium: true });
});

/** On iPhones and in Firefox nothing is sent once the app is closed; saying otherwise costs a study hours. */
test('a browser that cannot send in the background says so', () => {
  expect(safety(NEW, { background: false, sending: true }).closing).toBe('stay');
  expect(safety(NEW, { background: false, sending: false }).closing).toBe('reopen');
});

/** The first version wrote no `leftover`; a study that it saved must go on in this one. */
test('what an earlier version stored is read', () => {
  const { leftover: _, ...stored } = play(...KEPT);

  expect(current(stored)).toEqual(play(...KEPT));
  expect(plan(current(stored))).toBe('follow');
});

/** Its other studies may be on that CD alone, and nobody has handed them in again yet. */
test('what is kept in part is not at its end, and its CD stays', () => {
  const pacs: OutboxEvent = { type: 'journey', entry: entry(['clinic', 'cloud', 'pacs'], { copies: 2 }) };
  const kept: OutboxEvent = { type: 'kept', entries: ['e'], leftover: true, partly: 'partly-kept' };
  const item = play(...KEPT.slice(0, 3), kept, pacs);
  const said = after(item, { type: 'leftover-erased' });
  const removable = (one: OutboxItem) => safety(one, { background: true, sending: false }).removeMedium;

  expect([isSettledItem(item), mayEraseBytes(item), removable(item)]).toEqual([false, false, false]);
  expect([isSettledItem(said), mayEraseBytes(said), removable(said)]).toEqual([true, true, true]);
});

/** An earlier version stored these and stopped for good. */
test('what another node may take goes on by itself', () => {
  const waits = play(...KEPT.slice(0, 1), { type: 'problem', code: 'destination-unknown' });
  const stops = play(...KEPT.slice(0, 1), { type: 'problem', code: 'mixed-patients' });

  expect([plan(waits), sentence(waits, false).key]).toEqual(['confirm', 'journey.saved']);
  expect([plan(stops), sentence(stops, false).key]).toEqual(['rest', 'journey.problem']);
});
