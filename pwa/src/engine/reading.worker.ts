/** The worker that reads picked files and copies them: what is slow, away from the screen. */

import { group, type ReadFile, type Reading } from '../domain/detection';
import { readFile } from './header';
import type { FromWorker, Picked, ToWorker } from './messages';
import { type StagedFile, stage } from './staging';

let picked: readonly Picked[] = [];
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

async function detect(files: readonly Picked[]): Promise<void> {
  picked = files;
  const found: ReadFile[] = [];
  for (const [index, { file, path }] of files.entries()) {
    if (index % 20 === 0) say({ type: 'progress', done: index, total: files.length });
    found.push({ index, name: path, size: file.size, reading: await readFile(file) });
  }
  readings = found.map(({ reading }) => reading);
  say({ type: 'detected', detection: group(found) });
}

async function save({ job }: Extract<ToWorker, { type: 'stage' }>): Promise<void> {
  const files = job.found.studies.flatMap((study) => study.files).map(toStage);
  let told = -1;
  const staged = await stage(job, files, (done, total) => {
    const share = total === 0 ? 100 : Math.floor((100 * done) / total);
    if (share !== told) say({ type: 'progress', done, total });
    told = share;
  });
  say({ type: 'staged', staged });
}

function toStage(index: number): StagedFile {
  const { file, path } = picked[index] as Picked;
  const reading = readings[index];
  if (reading?.kind !== 'instance') throw new DOMException('not an instance', 'NotReadableError');
  const { studyUid, instanceUid } = reading.header;
  return { file, path, studyUid, instanceUid };
}
