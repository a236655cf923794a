/** The one moment where a person decides: is this the right patient, and what goes. */

import { type ReactNode, useEffect, useRef, useState } from 'react';
import type { FoundPatient, FoundStudy, Patient } from '../domain/detection';
import { readableName } from '../domain/units';
import { confirm, go, start, useApp } from '../state/store';
import { Bar, Button, Card, Note, Page, Title } from '../ui/parts';
import { SkippedList } from '../ui/SkippedList';

export function Confirm() {
  const found = useApp((state) => state.patient);
  useEffect(() => {
    // After a reload the picked files are gone: a page cannot hold them.
    if (found === null) go({ screen: 'home' });
  }, [found]);
  return found === null ? null : <ConfirmPatient key={found.key} found={found} />;
}

function ConfirmPatient({ found }: { readonly found: FoundPatient }) {
  const saving = useApp((state) => state.saving);
  const failed = useApp((state) => state.savingFailed);
  const detection = useApp((state) => state.detection);
  const { t } = useApp((state) => state.language);
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [impression, setImpression] = useState('');
  const [urgent, setUrgent] = useState(false);
  const [right, setRight] = useState(false);
  const [hint, setHint] = useState<'confirm.gateHint' | 'confirm.noStudy' | null>(null);
  const gate = useRef<HTMLInputElement>(null);
  const chosen = found.studies.filter((study) => !left.has(study.studyUid));

  function toggle(uid: string): void {
    const next = new Set(left);
    if (!next.delete(uid)) next.add(uid);
    setLeft(next);
  }

  function submit(): void {
    if (chosen.length === 0) {
      setHint('confirm.noStudy');
    } else if (right) {
      void confirm({ ...found, studies: chosen }, impression.trim(), urgent);
    } else {
      setHint('confirm.gateHint');
      gate.current?.focus();
    }
  }

  if (saving !== null) return <Saving />;
  return (
    <Page back="#/select">
      <Title>{t('confirm.title')}</Title>
      <p className="text-muted">{t('confirm.lead')}</p>
      {failed !== null && <Failed reason={failed} />}
      <PatientPanel patient={found.patient} />
      <Card className="p-5">
        <h2 className="font-semibold">{t('confirm.studies', { count: found.studies.length })}</h2>
        <ul className="divide-y divide-line">
          {found.studies.map((study) => (
            <li key={study.studyUid}>
              <StudyRow
                study={study}
                alone={found.studies.length === 1}
                chosen={!left.has(study.studyUid)}
                toggle={() => toggle(study.studyUid)}
              />
            </li>
          ))}
        </ul>
        <SkippedList skipped={detection?.skipped ?? []} />
      </Card>
      <Card className="space-y-5 p-5">
        <div className="space-y-1.5">
          <label htmlFor="impression" className="font-semibold">
            {t('confirm.impression')}
          </label>
          <p id="impression-hint" className="text-muted text-sm">
            {t('confirm.impressionHint')}
          </p>
          <textarea
            id="impression"
            rows={3}
            // A browser that restores its tabs keeps what stands in forms: not this.
            autoComplete="off"
            maxLength={4000}
            value={impression}
            onChange={(event) => setImpression(event.target.value)}
            aria-describedby="impression-hint"
            className="block w-full rounded-xl border border-line bg-ground px-4 py-3 text-base"
          />
        </div>
        <fieldset className="space-y-1.5">
          <legend className="font-semibold">{t('confirm.priority')}</legend>
          <div className="grid grid-cols-2 gap-2">
            <Choice name="priority" checked={!urgent} choose={() => setUrgent(false)}>
              {t('confirm.routine')}
            </Choice>
            <Choice name="priority" checked={urgent} choose={() => setUrgent(true)}>
              {t('confirm.urgent')}
            </Choice>
          </div>
        </fieldset>
      </Card>
      <div className="space-y-3">
        <label className="flex min-h-14 cursor-pointer items-center gap-4 rounded-2xl border-2 border-line bg-surface px-5 py-3 font-semibold text-lg has-checked:border-done has-checked:bg-done-soft">
          <input
            ref={gate}
            type="checkbox"
            autoComplete="off"
            checked={right}
            onChange={(event) => {
              setRight(event.target.checked);
              setHint(null);
            }}
            aria-describedby={hint ? 'gate-hint' : undefined}
            className="size-6 shrink-0 accent-brand"
          />
          {t('confirm.gate')}
        </label>
        {hint && (
          <p id="gate-hint" role="alert" className="font-medium text-act">
            {t(hint)}
          </p>
        )}
        <Button look="primary" icon="check" wide className="min-h-14 text-lg" onClick={submit}>
          {t('confirm.go')}
        </Button>
      </div>
    </Page>
  );
}

function Choice(props: {
  readonly name: string;
  readonly checked: boolean;
  readonly choose: () => void;
  readonly children: ReactNode;
}) {
  return (
    <label className="flex min-h-12 cursor-pointer items-center justify-center gap-2 rounded-xl border border-line px-3 font-medium has-checked:border-brand has-checked:bg-brand-soft has-focus-visible:outline-3 has-focus-visible:outline-brand">
      <input
        type="radio"
        name={props.name}
        autoComplete="off"
        checked={props.checked}
        onChange={props.choose}
        className="size-5 accent-brand"
      />
      {props.children}
    </label>
  );
}

const SEXES: Readonly<Record<string, string>> = { M: 'confirm.sexM', F: 'confirm.sexF', O: 'confirm.sexO' };

function PatientPanel({ patient }: { readonly patient: Patient }) {
  const { t, date } = useApp((state) => state.language);
  const sex = SEXES[patient.sex];
  const facts = [
    [t('confirm.born'), date(patient.birthDate) ?? t('confirm.unknown')],
    [t('confirm.id'), patient.id || t('confirm.unknown')],
    [t('confirm.sex'), sex === undefined ? t('confirm.unknown') : t(sex)],
  ] as const;
  return (
    <Card className="border-s-4 border-s-brand p-5">
      <p className="break-words font-bold text-2xl leading-tight">
        <bdi>{readableName(patient.name) || t('confirm.unnamed')}</bdi>
      </p>
      <dl className="mt-3 grid grid-cols-2 gap-x-4 gap-y-3 sm:grid-cols-3">
        {facts.map(([term, fact]) => (
          <div key={term} className="min-w-0">
            <dt className="text-muted text-sm">{term}</dt>
            <dd className="break-words font-semibold text-lg">
              <bdi>{fact}</bdi>
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function StudyRow(props: {
  readonly study: FoundStudy;
  readonly alone: boolean;
  readonly chosen: boolean;
  readonly toggle: () => void;
}) {
  const { t, date, list, size } = useApp((state) => state.language);
  const { study } = props;
  const text = (
    <span className="min-w-0 flex-1">
      <span className="block break-words font-medium">
        {[list(study.modalities), date(study.studyDate) ?? t('confirm.noDate')].filter(Boolean).join(' · ')}
      </span>
      <span className="block break-words text-muted text-sm">
        {[study.description, t('confirm.images', { count: study.images }), size(study.bytes)]
          .filter(Boolean)
          .join(' · ')}
      </span>
    </span>
  );
  if (props.alone) return <div className="flex min-h-14 items-center py-3">{text}</div>;
  return (
    <label className="flex min-h-14 cursor-pointer items-center gap-4 py-3">
      <input
        type="checkbox"
        autoComplete="off"
        checked={props.chosen}
        onChange={props.toggle}
        aria-label={t('confirm.include')}
        className="size-6 shrink-0 accent-brand"
      />
      {text}
    </label>
  );
}

function Saving() {
  const saving = useApp((state) => state.saving);
  const { t } = useApp((state) => state.language);
  return (
    <Page>
      <Title>{t('confirm.saving')}</Title>
      <Card className="space-y-3 p-5">
        <Bar label={t('confirm.saving')} done={saving?.done ?? 0} total={saving?.total ?? 0} />
        <p className="text-muted">{t('confirm.savingText')}</p>
      </Card>
    </Page>
  );
}

const REASONS: Readonly<Record<string, string>> = {
  QuotaExceededError: 'confirm.quota',
  NotReadableError: 'confirm.unreadable',
  NotFoundError: 'confirm.unreadable',
};

function Failed({ reason }: { readonly reason: string }) {
  const { t } = useApp((state) => state.language);
  return (
    <Note
      tone="act"
      icon="alert"
      title={t('confirm.failedTitle')}
      action={<Button onClick={start}>{t('confirm.choose')}</Button>}
    >
      <p>{t(REASONS[reason] ?? 'confirm.failed')}</p>
    </Note>
  );
}
