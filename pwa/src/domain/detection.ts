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
  | 'picture'
  | 'pdf'
  | 'archive'
  | 'empty'
  | 'unreadable'
  | 'incomplete';

export type Reading =
  | { readonly kind: 'instance'; readonly header: InstanceHeader }
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
  readonly bytes: number;
  readonly files: readonly number[];
}

export interface FoundPatient {
  readonly key: string;
  readonly patient: Patient;
  readonly studies: readonly FoundStudy[];
}

export interface Skipped {
  readonly reason: SkipReason;
  readonly names: readonly string[];
}

export interface Detection {
  readonly patients: readonly FoundPatient[];
  readonly skipped: readonly Skipped[];
  readonly files: number;
}

/** Patients differ when anything that names them differs: better to ask once too often. */
function patientKey({ name, id, birthDate, sex }: Patient): string {
  return JSON.stringify([id.trim(), name.trim().toUpperCase(), birthDate, sex]);
}

/** Group what was read by patient and study, newest study first. */
export function group(files: readonly ReadFile[]): Detection {
  const patients = new Map<string, { patient: Patient; studies: Map<string, Draft> }>();
  const skipped = new Map<SkipReason, string[]>();
  for (const file of files) {
    if (file.reading.kind === 'skipped') {
      const names = skipped.get(file.reading.reason) ?? [];
      names.push(file.name);
      skipped.set(file.reading.reason, names);
      continue;
    }
    const { header } = file.reading;
    const key = patientKey(header.patient);
    const owner = patients.get(key) ?? { patient: header.patient, studies: new Map<string, Draft>() };
    patients.set(key, owner);
    const study = owner.studies.get(header.studyUid) ?? newDraft(header);
    owner.studies.set(header.studyUid, study);
    add(study, file, header);
  }
  return {
    patients: [...patients].map(([key, { patient, studies }]) => ({
      key,
      patient,
      studies: [...studies.values()].map(finished).sort((a, b) => b.studyDate.localeCompare(a.studyDate)),
    })),
    skipped: [...skipped].map(([reason, names]) => ({ reason, names })),
    files: files.length,
  };
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

function add(study: Draft, file: ReadFile, header: InstanceHeader): void {
  study.studyDate ||= header.studyDate;
  study.description ||= header.description;
  if (header.modality) study.modalities.add(header.modality);
  study.instances.add(header.instanceUid);
  study.bytes += file.size;
  study.files.push(file.index);
}

function finished(study: Draft): FoundStudy {
  const { studyUid, studyDate, description, modalities, instances, bytes, files } = study;
  return {
    studyUid,
    studyDate,
    description,
    modalities: [...modalities],
    images: instances.size,
    bytes,
    files,
  };
}
