/** What the page and its reading worker say to each other. */

import type { Detection, FoundPatient, Patient } from '../domain/detection';
import type { ChosenPicture } from '../domain/pictures';

/** A file that a person picked, with its path inside the picked folder. */
export interface Picked {
  readonly file: File;
  readonly path: string;
}

export interface StageJob {
  readonly id: string;
  readonly found: FoundPatient;
  readonly pictures: readonly ChosenPicture[];
  /** Of whom the pictures are, when they become a study of their own. */
  readonly typed: { readonly patient: Patient; readonly studyDate: string; readonly bodyPart: string } | null;
  readonly impression: string;
  readonly urgent: boolean;
  /** The PACS that a person named; null leaves it to the mesh. */
  readonly destination: string | null;
}

/** What lies on this device now. */
export interface Staged {
  readonly kind: 'file' | 'zip';
  readonly bytes: number;
  readonly images: number;
}

export type ToWorker =
  | { readonly type: 'detect'; readonly files: readonly Picked[] }
  | { readonly type: 'stage'; readonly job: StageJob };

export type FromWorker =
  | { readonly type: 'progress'; readonly done: number; readonly total: number }
  | {
      readonly type: 'detected';
      readonly detection: Detection;
      /** The pictures that can be shown, by their index. */
      readonly previews: ReadonlyMap<number, Blob>;
    }
  | { readonly type: 'staged'; readonly staged: Staged }
  | { readonly type: 'failed'; readonly reason: string };
