/** Photos and papers: what a person says about files that say nothing of a patient themselves. */

import type { FoundPicture, Patient } from './detection';

/** What a picture shows, in the node's words (docs/architecture.md §3, `documents`). */
export type PictureUse = 'photo' | 'film' | 'scan' | 'screen' | 'pdf';

export const USES: readonly Exclude<PictureUse, 'pdf'>[] = ['photo', 'film', 'scan', 'screen'];

export interface ChosenPicture {
  readonly index: number;
  readonly use: PictureUse;
}

/** The use that is offered first. */
export function firstUse(picture: FoundPicture): PictureUse {
  return picture.kind === 'pdf' ? 'pdf' : 'photo';
}

/** The patient as a person types it. Dates as an `<input type="date">` gives them. */
export interface TypedPatient {
  readonly family: string;
  readonly given: string;
  readonly id: string;
  readonly birthDate: string;
  readonly sex: string;
  readonly studyDate: string;
  readonly bodyPart: string;
}

/** Body parts that are asked for, as DICOM writes them (PS3.16 annex L). */
export const BODY_PARTS = [
  'CHEST',
  'ABDOMEN',
  'PELVIS',
  'HEAD',
  'SPINE',
  'ARM',
  'HAND',
  'LEG',
  'FOOT',
  'SKIN',
] as const;

/** A component of a name must not end it (PS3.5 §6.2.1, VR PN), nor the value. */
function component(typed: string): string {
  return typed
    .replaceAll(/[\^=\\\p{Cc}]/gu, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

const LONGEST = 64;

/** Return the patient for the confirmation. */
export function patientOf(typed: TypedPatient): Patient {
  const name = [component(typed.family), component(typed.given)].filter(Boolean).join('^');
  return {
    name: name.slice(0, LONGEST),
    id: component(typed.id).slice(0, LONGEST),
    birthDate: compact(typed.birthDate),
    sex: typed.sex,
  };
}

/** Return `YYYY-MM-DD` as DICOM writes it. */
export function compact(date: string): string {
  return date.replaceAll('-', '');
}

export type Missing = 'name' | 'study-date';

/** Return what must be typed before the pictures can be sent. */
export function missing(typed: TypedPatient): readonly Missing[] {
  return [
    ...(patientOf(typed).name === '' ? (['name'] as const) : []),
    ...(/^\d{4}-\d{2}-\d{2}$/.test(typed.studyDate) ? [] : (['study-date'] as const)),
  ];
}

/** What the hospital calls the kinds of image that the node makes of pictures (Modality, PS3.3 §C.7.3.1.1.1). */
export function modalitiesOf(pictures: readonly ChosenPicture[]): readonly string[] {
  const of = ({ use }: ChosenPicture): string => (use === 'photo' ? 'XC' : use === 'pdf' ? 'DOC' : 'OT');
  return [...new Set(pictures.map(of))];
}
