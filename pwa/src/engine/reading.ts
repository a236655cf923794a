/** The page's side of the reading worker: one worker for one choice of files. */

import type { FromWorker, Picked, Staged, StageJob, ToWorker } from './messages';
import workerUrl from './reading.worker?worker&url';
import { scriptUrl } from './trusted';

/** Reading or copying failed; `reason` is the name of the DOMException. */
export class ReadingFailed extends Error {
  override readonly name = 'ReadingFailed';

  constructor(readonly reason: string) {
    super(reason);
  }
}

type Progress = (done: number, total: number) => void;

export type Detected = Extract<FromWorker, { type: 'detected' }>;

export interface Reader {
  detect(files: readonly Picked[], progress: Progress): Promise<Detected>;
  stage(job: StageJob, progress: Progress): Promise<Staged>;
  end(): void;
}

export function newReader(): Reader {
  const worker = new Worker(scriptUrl(workerUrl), { type: 'module' });

  function ask<T>(message: ToWorker, progress: Progress, pick: (answer: FromWorker) => T | null): Promise<T> {
    return new Promise((resolve, reject) => {
      worker.onerror = () => reject(new ReadingFailed('Error'));
      worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
        if (data.type === 'progress') return progress(data.done, data.total);
        const answer = pick(data);
        if (answer !== null) return resolve(answer);
        reject(new ReadingFailed(data.type === 'failed' ? data.reason : 'Error'));
      };
      worker.postMessage(message);
    });
  }

  return {
    detect: (files, progress) =>
      ask({ type: 'detect', files }, progress, (a) => (a.type === 'detected' ? a : null)),
    stage: (job, progress) =>
      ask({ type: 'stage', job }, progress, (a) => (a.type === 'staged' ? a.staged : null)),
    end: () => worker.terminate(),
  };
}
