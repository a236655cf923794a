/** The worker that reads picked files and copies them: what is slow, away from the screen. */

import { group, type ReadFile, type Reading, type SkipReason } from '../domain/detection';
import { readFile } from './header';
import type { FromWorker, Picked, ToWorker } from './messages';
import { openZip, plain, preceded, type Source } from './sources';
import { type StagedFile, stage } from './staging';

/** What can be sent, by the index that the page knows it by. */
let sources: readonly (Source | null)[] = [];
let readings: readonly Reading[] = [];

const say = (message: FromWorker): void => self.postMessage(message);

self.addEventListener('message', async (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  try {
    if (message.type === 'detect') await detect(message.files);
    else await save(message);
  } catch (error) {
    say({ type: 'failed', reason: error instanceof DOMException ? error.name : 'Error' });
  }
});

/** Return what is sent of a file; null when nothing is. */
function sent(source: Source, reading: Reading): Source | null {
  if (reading.kind === 'instance') return preceded(source, reading.front);
  return reading.kind === 'picture' ? source : null;
}

async function detect(picked: readonly Picked[]): Promise<void> {
  const found: ReadFile[] = [];
  const kept: (Source | null)[] = [];
  const add = (name: string, source: Source | null, reading: Reading): void => {
    found.push({ index: found.length, name, size: source?.size ?? 0, reading });
    kept.push(source && sent(source, reading));
  };
  for (const [index, one] of picked.entries()) {
    if (index % 20 === 0) say({ type: 'progress', done: index, total: picked.length });
    const source = plain(one.file, one.path);
    const reading = await readFile(source);
    if (reading.kind === 'skipped' && reading.reason === 'archive') await detectInside(one, add);
    else add(one.path, source, reading);
  }
  sources = kept;
  readings = found.map(({ reading }) => reading);
  const detection = group(found);
  const previews = new Map<number, Blob>();
  for (const { index, kind } of detection.pictures) {
    const blob = kept[index]?.blob;
    if (blob && kind !== 'pdf') previews.set(index, blob);
  }
  say({ type: 'detected', detection, previews });
}

/** Look through a picked ZIP. One that lies in it stays closed. */
async function detectInside(
  archive: Picked,
  add: (name: string, source: Source | null, reading: Reading) => void,
): Promise<void> {
  const skip = (name: string, reason: string): void =>
    add(name, null, { kind: 'skipped', reason: reason as SkipReason });
  const opened = await openZip(archive).catch(() => ({ code: 'unreadable' }) as const);
  if ('code' in opened) return skip(archive.path, opened.code);
  for (const [index, member] of opened.members.entries()) {
    if (index % 20 === 0) say({ type: 'progress', done: index, total: opened.members.length });
    if ('problem' in member) skip(member.path, member.problem);
    else add(member.path, member, await readFile(member));
  }
}

async function save({ job }: Extract<ToWorker, { type: 'stage' }>): Promise<void> {
  const files = [
    ...job.found.studies.flatMap((study) => study.files).map(toStage),
    ...job.pictures.map(({ index, use }) => ({ source: sourceOf(index), use })),
  ];
  let told = -1;
  const staged = await stage(job, files, (done, total) => {
    const share = total === 0 ? 100 : Math.floor((100 * done) / total);
    if (share !== told) say({ type: 'progress', done, total });
    told = share;
  });
  say({ type: 'staged', staged });
}

function sourceOf(index: number): Source {
  const source = sources[index];
  if (!source) throw new DOMException('nothing to send', 'NotReadableError');
  return source;
}

function toStage(index: number): StagedFile {
  const reading = readings[index];
  if (reading?.kind !== 'instance') throw new DOMException('not an instance', 'NotReadableError');
  const { studyUid, instanceUid } = reading.header;
  return { source: sourceOf(index), studyUid, instanceUid };
}
