/** The one moment where a person decides: is this the right patient, and what goes. */

import { type ReactNode, useEffect, useRef, useState } from 'react';
import { offered } from '../domain/destinations';
import { duplicates, type FoundPatient, type FoundStudy, tooMuch } from '../domain/detection';
import {
  type ChosenPicture,
  compact,
  firstUse,
  type Missing,
  missing,
  patientOf,
  type TypedPatient,
} from '../domain/pictures';
import { confirm, start } from '../state/choosing';
import { go, useApp } from '../state/store';
import { remembered } from '../storage/destinations';
import { Destinations } from '../ui/Destinations';
import { PatientForm } from '../ui/PatientForm';
import { PatientPanel } from '../ui/PatientPanel';
import { Pictures, type Uses } from '../ui/Pictures';
import { Bar, Button, Card, Note, Page, Title } from '../ui/parts';
import { SkippedList } from '../ui/SkippedList';

export function Confirm() {
  const found = useApp((state) => state.patient);
  const saving = useApp((state) => state.saving);
  useEffect(() => {
    // After a reload the picked files are gone: a page cannot hold them.
    if (found === null) go({ screen: 'home' });
  }, [found]);
  if (saving !== null) return <Saving />;
  return found === null ? null : <ConfirmPatient key={found.key} found={found} />;
}

type Hint = 'confirm.gateHint' | 'confirm.archiveHint' | 'confirm.noStudy' | 'confirm.tooMuch' | 'typed.hint';

function today(): string {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}

function ConfirmPatient({ found }: { readonly found: FoundPatient }) {
  const failed = useApp((state) => state.savingFailed);
  const detection = useApp((state) => state.detection);
  const { t } = useApp((state) => state.language);
  const pictures = detection?.pictures ?? [];
  const onlyPictures = found.studies.length === 0;
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [uses, setUses] = useState<Uses>(
    () => new Map(onlyPictures ? pictures.map((picture) => [picture.index, firstUse(picture)]) : []),
  );
  const [typed, setTyped] = useState<TypedPatient>({
    family: '',
    given: '',
    id: '',
    birthDate: '',
    sex: '',
    studyDate: today(),
    bodyPart: '',
  });
  const [lacking, setLacking] = useState<readonly Missing[]>([]);
  const [impression, setImpression] = useState('');
  const [urgent, setUrgent] = useState(false);
  const known = useApp((state) => state.destinations);
  // What was offered stays: an answer of the node that comes meanwhile must not change what a person chose.
  const [archives, setArchives] = useState(() => offered(known, remembered.last()));
  useEffect(() => setArchives((before) => before ?? offered(known, remembered.last())), [known]);
  const [said, setSaid] = useState<string | null>();
  const destination = said === undefined ? (archives?.first ?? null) : said;
  const [right, setRight] = useState(false);
  const [hint, setHint] = useState<Hint | null>(null);
  const gate = useRef<HTMLInputElement>(null);
  const chosen = found.studies.filter((study) => !left.has(study.studyUid));

  function toggle(uid: string): void {
    const next = new Set(left);
    if (!next.delete(uid)) next.add(uid);
    setLeft(next);
  }

  function hintOf(): Hint | null {
    if (onlyPictures ? uses.size === 0 : chosen.length === 0) return 'confirm.noStudy';
    if (tooMuch(chosen)) return 'confirm.tooMuch';
    if (onlyPictures && missing(typed).length > 0) return 'typed.hint';
    if (archives !== null && destination === null) return 'confirm.archiveHint';
    return right ? null : 'confirm.gateHint';
  }

  function submit(): void {
    const wrong = hintOf();
    setHint(wrong);
    setLacking(onlyPictures ? missing(typed) : []);
    if (wrong === 'confirm.gateHint') gate.current?.focus();
    if (wrong === 'confirm.archiveHint') document.querySelector<HTMLElement>('#archive')?.focus();
    if (wrong === 'typed.hint') document.querySelector<HTMLElement>('#patient-family')?.focus();
    if (wrong !== null) return;
    const picked: readonly ChosenPicture[] = Array.from(uses, ([index, use]) => ({ index, use }));
    const who = { patient: patientOf(typed), studyDate: compact(typed.studyDate), bodyPart: typed.bodyPart };
    void confirm({
      found: { ...found, studies: chosen },
      pictures: picked,
      typed: onlyPictures ? who : null,
      impression: impression.trim(),
      urgent,
      destination: archives === null ? null : destination || null,
    });
  }

  return (
    <Page back="#/select">
      <Title>{t(onlyPictures ? 'typed.who' : 'confirm.title')}</Title>
      <p className="text-muted">{t(onlyPictures ? 'typed.whoText' : 'confirm.lead')}</p>
      {failed !== null && <Failed reason={failed} />}
      {onlyPictures ? (
        <PatientForm typed={typed} change={setTyped} missing={lacking} />
      ) : (
        <PatientPanel patient={found.patient} />
      )}
      <Missed studies={chosen} />
      <Card className="p-5">
        <h2 className="font-semibold">
          {onlyPictures ? t('pictures.title') : t('confirm.studies', { count: found.studies.length })}
        </h2>
        {onlyPictures ? (
          <Pictures pictures={pictures} uses={uses} change={setUses} />
        ) : (
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
        )}
        {!onlyPictures && pictures.length > 0 && (
          <details className="group border-line border-t text-sm">
            <summary className="flex min-h-12 cursor-pointer items-center font-medium text-brand">
              {t('pictures.along', { count: pictures.length })}
            </summary>
            <Pictures pictures={pictures} uses={uses} change={setUses} />
          </details>
        )}
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
            className="block w-full rounded-xl border border-edge bg-ground px-4 py-3 text-base"
          />
        </div>
        <fieldset className="space-y-1.5">
          <legend className="font-semibold">{t('confirm.priority')}</legend>
          <div className="grid grid-cols-1 gap-2 min-[22rem]:grid-cols-2">
            <Choice name="priority" checked={!urgent} choose={() => setUrgent(false)}>
              {t('confirm.routine')}
            </Choice>
            <Choice name="priority" checked={urgent} choose={() => setUrgent(true)}>
              {t('confirm.urgent')}
            </Choice>
          </div>
        </fieldset>
        {archives !== null && (
          <Destinations
            id="archive"
            label={t('confirm.archive')}
            names={archives.names}
            byRules={archives.byRules}
            chosen={destination}
            choose={(name) => {
              setSaid(name);
              setHint(null);
            }}
          />
        )}
      </Card>
      <div className="space-y-3">
        <label className="flex min-h-14 cursor-pointer items-center gap-4 rounded-2xl border-2 border-edge bg-surface px-5 py-3 font-semibold text-lg has-checked:border-done has-checked:bg-done-soft">
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

/** The disc's table of contents lists more than is here: a person should know before he walks away. */
function Missed({ studies }: { readonly studies: readonly FoundStudy[] }) {
  const { t } = useApp((state) => state.language);
  const nameless = useApp((state) => state.detection?.directory?.nameless ?? 0);
  const count = studies.reduce((sum, study) => sum + study.missing, nameless);
  if (count === 0) return null;
  return (
    <Note tone="urgent" icon="disc" title={t('confirm.missingTitle', { count })}>
      <p>{t('confirm.missingText')}</p>
    </Note>
  );
}

function Choice(props: {
  readonly name: string;
  readonly checked: boolean;
  readonly choose: () => void;
  readonly children: ReactNode;
}) {
  return (
    <label className="flex min-h-12 cursor-pointer items-center gap-3 rounded-xl border border-edge px-4 py-2 has-checked:border-brand has-checked:bg-brand-soft has-checked:font-semibold">
      <input
        type="radio"
        name={props.name}
        autoComplete="off"
        checked={props.checked}
        onChange={props.choose}
        className="size-5 shrink-0 accent-brand"
      />
      {props.children}
    </label>
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
  const twice = duplicates(study);
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
      {twice > 0 && (
        <span className="block text-muted text-sm">{t('confirm.duplicates', { count: twice })}</span>
      )}
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
  const { t, size } = useApp((state) => state.language);
  const { done, total } = saving ?? { done: 0, total: 0 };
  return (
    <Page>
      <Title>{t('confirm.saving')}</Title>
      <Card className="space-y-3 p-5">
        <Bar label={t('confirm.saving')} done={done} total={total} />
        {total > 0 && (
          <p className="text-muted text-sm tabular-nums">
            {t('study.sent', { sent: size(done), total: size(total) })}
          </p>
        )}
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
