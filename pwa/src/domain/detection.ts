/** What was found in the files that a person picked: patients, their studies, and what is left out. */

export interface Patient {
  readonly name: string;
  readonly id: string;
  /** `YYYYMMDD`, or empty. */
  readonly birthDate: string;
  readonly sex: string;
}

/** What we read of one DICOM instance, without its pixels. */
export interface InstanceHeader {
  readonly patient: Patient;
  readonly studyUid: string;
  readonly instanceUid: string;
  readonly studyDate: string;
  readonly modality: string;
  readonly description: string;
}

export type SkipReason =
  | 'not-dicom'
  | 'index'
  | 'archive'
  | 'empty'
  | 'unreadable'
  | 'incomplete'
  | ZipReason;

/** Codes of the node (docs/journeys.md): of a whole ZIP, then of one file in it. */
export type ZipReason =
  | 'zip-damaged'
  | 'zip-encrypted'
  | 'zip-climbs-out'
  | 'zip-overlaps'
  | 'zip-too-large'
  | 'empty-archive'
  | 'zip-method'
  | 'zip-ratio'
  | 'zip-link';

/** An image that the table of contents of a disc (DICOMDIR, PS3.10 §8.6) lists. */
export interface ListedImage {
  readonly studyUid: string;
  readonly instanceUid: string;
}

/** A picture or PDF: sent only when a person says so, since nothing in it says of whom it is. */
export type PictureKind = 'jpeg' | 'png' | 'pdf';

export type Reading =
  | {
      readonly kind: 'instance';
      readonly header: InstanceHeader;
      /** What has to stand in front of the file to make a Part 10 file of it; mostly nothing. */
      readonly front: Uint8Array;
    }
  | { readonly kind: 'index'; readonly listed: readonly ListedImage[] }
  | { readonly kind: 'picture'; readonly as: PictureKind }
  | { readonly kind: 'skipped'; readonly reason: SkipReason };

/** A picked file, by its place in the list of picked files. */
export interface ReadFile {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly reading: Reading;
}

export interface FoundStudy {
  readonly studyUid: string;
  readonly studyDate: string;
  readonly description: string;
  readonly modalities: readonly string[];
  readonly images: number;
  /** Images that the disc's table of contents lists and that are not here. */
  readonly missing: number;
  readonly bytes: number;
  readonly files: readonly number[];
}

export interface FoundPatient {
  readonly key: string;
  readonly patient: Patient;
  readonly studies: readonly FoundStudy[];
}

export interface FoundPicture {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly kind: PictureKind;
}

export interface Skipped {
  readonly reason: SkipReason;
  readonly names: readonly string[];
}

export interface Directory {
  readonly listed: number;
  readonly present: number;
  /** Of those that are not here: how many are of no study that it names. */
  readonly nameless: number;
}

export interface Detection {
  readonly patients: readonly FoundPatient[];
  readonly pictures: readonly FoundPicture[];
  readonly skipped: readonly Skipped[];
  readonly files: number;
  /** What the disc's table of contents lists, and how many of those images are here; null without one. */
  readonly directory: Directory | null;
}

/** Patients differ when anything that names them differs: better to ask once too often. */
function patientKey({ name, id, birthDate, sex }: Patient): string {
  return JSON.stringify([id.trim(), name.trim().toUpperCase(), birthDate, sex]);
}

/** Group what was read by patient and study, newest study first. */
export function group(files: readonly ReadFile[]): Detection {
  const patients = new Map<string, { patient: Patient; studies: Map<string, Draft> }>();
  const skipped = new Map<SkipReason, string[]>();
  const skip = (reason: SkipReason, name: string): void => {
    const names = skipped.get(reason) ?? [];
    names.push(name);
    skipped.set(reason, names);
  };
  const pictures: FoundPicture[] = [];
  const listed = new Map<string, string>();
  const present = new Set<string>();
  for (const { name, index, size, reading } of files) {
    if (reading.kind === 'skipped') {
      skip(reading.reason, name);
    } else if (reading.kind === 'picture') {
      pictures.push({ index, name, size, kind: reading.as });
    } else if (reading.kind === 'index') {
      skip('index', name);
      for (const image of reading.listed) listed.set(image.instanceUid, image.studyUid);
    } else {
      const { header } = reading;
      const key = patientKey(header.patient);
      const owner = patients.get(key) ?? { patient: header.patient, studies: new Map<string, Draft>() };
      patients.set(key, owner);
      const study = owner.studies.get(header.studyUid) ?? newDraft(header);
      owner.studies.set(header.studyUid, study);
      add(study, index, size, header);
      present.add(header.instanceUid);
    }
  }
  const absent = [...listed].filter(([uid]) => !present.has(uid)).map(([, studyUid]) => studyUid);
  return {
    patients: [...patients].map(([key, { patient, studies }]) => ({
      key,
      patient,
      studies: [...studies.values()]
        .map((study) => finished(study, absent.filter((uid) => uid === study.studyUid).length))
        .sort((a, b) => b.studyDate.localeCompare(a.studyDate)),
    })),
    pictures,
    skipped: [...skipped].map(([reason, names]) => ({ reason, names })),
    files: files.length,
    directory: listed.size === 0 ? null : directoryOf(listed.size, absent),
  };
}

function directoryOf(listed: number, absent: readonly string[]): Directory {
  const nameless = absent.filter((studyUid) => studyUid === '').length;
  return { listed, present: listed - absent.length, nameless };
}

interface Draft {
  readonly studyUid: string;
  studyDate: string;
  description: string;
  readonly modalities: Set<string>;
  readonly instances: Set<string>;
  bytes: number;
  readonly files: number[];
}

function newDraft(header: InstanceHeader): Draft {
  const { studyUid, studyDate, description } = header;
  return {
    studyUid,
    studyDate,
    description,
    modalities: new Set(),
    instances: new Set(),
    bytes: 0,
    files: [],
  };
}

function add(study: Draft, index: number, size: number, header: InstanceHeader): void {
  study.studyDate ||= header.studyDate;
  study.description ||= header.description;
  if (header.modality) study.modalities.add(header.modality);
  study.instances.add(header.instanceUid);
  study.bytes += size;
  study.files.push(index);
}

function finished(study: Draft, missing: number): FoundStudy {
  const { studyUid, studyDate, description, modalities, instances, bytes, files } = study;
  return {
    studyUid,
    studyDate,
    description,
    modalities: [...modalities],
    images: instances.size,
    missing,
    bytes,
    files,
  };
}

/** Return how many files of a study are there more than once. Equal ones are sent once. */
export function duplicates(study: FoundStudy): number {
  return study.files.length - study.images;
}

/** What the node takes in one submission (docs/journeys.md, `zip-too-large`). */
const MOST_FILES = 20_000;
const MOST_BYTES = 16 * 2 ** 30;

/** Return whether studies are too much for one submission. */
export function tooMuch(studies: readonly FoundStudy[]): boolean {
  const sum = (of: (study: FoundStudy) => number): number =>
    studies.reduce((total, study) => total + of(study), 0);
  return sum(({ files }) => files.length) > MOST_FILES || sum(({ bytes }) => bytes) > MOST_BYTES;
}
