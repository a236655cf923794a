/** The patient, typed by a person: for photos and papers, in which nothing says of whom they are. */

import type { ReactNode } from 'react';
import { BODY_PARTS, type Missing, type TypedPatient } from '../domain/pictures';
import { useApp } from '../state/store';
import { Card, FIELD } from './parts';

export function PatientForm(props: {
  readonly typed: TypedPatient;
  readonly change: (typed: TypedPatient) => void;
  readonly missing: readonly Missing[];
}) {
  const { t } = useApp((state) => state.language);
  const { typed, missing } = props;
  const field = (name: keyof TypedPatient, more: object = {}) => (
    <input
      id={`patient-${name}`}
      className={FIELD}
      // A browser that restores its tabs, or fills in forms, keeps what stands in them: not this.
      autoComplete="off"
      spellCheck={false}
      maxLength={60}
      value={typed[name]}
      onChange={(event) => props.change({ ...typed, [name]: event.target.value })}
      {...more}
    />
  );
  const choice = (name: 'sex' | 'bodyPart', texts: readonly (readonly [string, string])[]) => (
    <select
      id={`patient-${name}`}
      className={FIELD}
      autoComplete="off"
      value={typed[name]}
      onChange={(event) => props.change({ ...typed, [name]: event.target.value })}
    >
      {texts.map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  );
  const wrong = (what: Missing): object =>
    missing.includes(what) ? { 'aria-invalid': true, 'aria-describedby': `missing-${what}` } : {};
  return (
    <Card className="space-y-4 border-s-4 border-s-brand p-5">
      <div>
        <h2 className="font-semibold">{t('typed.title')}</h2>
        <p className="text-muted text-sm">{t('typed.lead')}</p>
      </div>
      <div className="grid gap-4 sm:grid-cols-2">
        <Labelled name="family" text={t('typed.family')} missing={missing.includes('name') ? 'name' : null}>
          {field('family', { required: true, ...wrong('name') })}
        </Labelled>
        <Labelled name="given" text={t('typed.given')}>
          {field('given')}
        </Labelled>
        <Labelled name="birthDate" text={t('typed.birthDate')}>
          {field('birthDate', { type: 'date' })}
        </Labelled>
        <Labelled name="sex" text={t('confirm.sex')}>
          {choice('sex', [
            ['', t('confirm.unknown')],
            ['F', t('confirm.sexF')],
            ['M', t('confirm.sexM')],
            ['O', t('confirm.sexO')],
          ])}
        </Labelled>
        <Labelled name="id" text={t('confirm.id')}>
          {field('id')}
        </Labelled>
        <Labelled
          name="studyDate"
          text={t('typed.studyDate')}
          missing={missing.includes('study-date') ? 'study-date' : null}
        >
          {field('studyDate', { type: 'date', required: true, ...wrong('study-date') })}
        </Labelled>
        <Labelled name="bodyPart" text={t('typed.bodyPart')}>
          {choice('bodyPart', [
            ['', t('confirm.unknown')],
            ...BODY_PARTS.map((part) => [part, t(`body.${part}`)] as const),
          ])}
        </Labelled>
      </div>
    </Card>
  );
}

function Labelled(props: {
  readonly name: keyof TypedPatient;
  readonly text: string;
  readonly missing?: Missing | null;
  readonly children: ReactNode;
}) {
  const { t } = useApp((state) => state.language);
  return (
    <div className="space-y-2">
      <label htmlFor={`patient-${props.name}`} className="font-medium">
        {props.text}
      </label>
      {props.children}
      {props.missing && (
        <p id={`missing-${props.missing}`} className="font-medium text-act text-sm">
          {t(`typed.missing.${props.missing}`)}
        </p>
      )}
    </div>
  );
}
