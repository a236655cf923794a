/** Choose what to hand in, and which patient when there are several. */

import { type ChangeEvent, useRef } from 'react';
import type { Detection, FoundPatient, SkipReason } from '../domain/detection';
import { readableName } from '../domain/units';
import { fromInput } from '../engine/picking';
import { choose, read } from '../state/choosing';
import { useApp } from '../state/store';
import { Icon, type IconName } from '../ui/icons';
import { Bar, Card, Note, Page, Title } from '../ui/parts';
import { SkippedList } from '../ui/SkippedList';

export function Select() {
  const reading = useApp((state) => state.reading);
  const detection = useApp((state) => state.detection);
  const failed = useApp((state) => state.readingFailed);
  const { t } = useApp((state) => state.language);
  if (reading !== null) return <Reading />;
  if (detection !== null && detection.patients.length > 0) return <Patients detection={detection} />;
  return (
    <Page back="#/">
      <Title>{t('select.title')}</Title>
      {failed && (
        <Note tone="act" icon="alert" title={t('select.failedTitle')}>
          <p>{t('select.failedText')}</p>
        </Note>
      )}
      {detection !== null && <NothingFound detection={detection} />}
      <Picker icon="disc" title={t('select.folder')} text={t('select.folderText')} pick="folder" />
      <Picker icon="files" title={t('select.files')} text={t('select.filesText')} pick="files" />
      <Picker icon="camera" title={t('select.photo')} text={t('select.photoText')} pick="photo" />
      <p className="hidden rounded-2xl border-2 border-line border-dashed py-8 text-center text-muted pointer-fine:block">
        {t('select.drop')}
      </p>
    </Page>
  );
}

/** Why a ZIP as a whole was not opened, in the order in which it is told. */
const CLOSED: readonly SkipReason[] = [
  'zip-encrypted',
  'zip-damaged',
  'zip-too-large',
  'zip-climbs-out',
  'zip-overlaps',
  'empty-archive',
];

function NothingFound({ detection }: { readonly detection: Detection }) {
  const { t } = useApp((state) => state.language);
  const closed = CLOSED.find((code) => detection.skipped.some(({ reason }) => reason === code));
  if (closed !== undefined) {
    return (
      <Note tone="act" icon="alert" title={t('select.closedTitle')}>
        <p>{t(`closed.${closed}`)}</p>
        <SkippedList skipped={detection.skipped} />
      </Note>
    );
  }
  const unreadable = detection.skipped.some(({ reason }) => reason === 'unreadable');
  return (
    <Note tone="quiet" icon="files" title={t('select.noneTitle')}>
      <p>{t(unreadable ? 'select.unreadableText' : 'select.noneText', { count: detection.files })}</p>
      <SkippedList skipped={detection.skipped} />
    </Note>
  );
}

type Pick = 'folder' | 'files' | 'photo';

/** Folders where the browser has them; the camera of a phone. Names and types lie: no filter for files. */
const INPUTS: Readonly<Record<Pick, object>> = {
  folder: { multiple: true, webkitdirectory: '' },
  files: { multiple: true },
  photo: { accept: 'image/jpeg,image/png', capture: 'environment' },
};

function Picker(props: {
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
  readonly pick: Pick;
}) {
  const input = useRef<HTMLInputElement>(null);
  function picked(event: ChangeEvent<HTMLInputElement>): void {
    const files = event.target.files;
    // `fromInput` copies the list: emptying the field would empty it, and keeps no names for a restored page.
    if (files && files.length > 0) void read(fromInput(files));
    event.target.value = '';
  }
  return (
    <>
      <button
        type="button"
        onClick={() => input.current?.click()}
        className="flex w-full cursor-pointer items-center gap-4 rounded-2xl border border-line bg-surface p-5 text-start shadow-card transition-colors hover:border-brand"
      >
        <span className="grid size-14 shrink-0 place-items-center rounded-2xl bg-brand-soft text-brand">
          <Icon name={props.icon} className="size-7" />
        </span>
        <span className="min-w-0 flex-1">
          <span className="block font-semibold text-lg">{props.title}</span>
          <span className="block text-muted text-sm">{props.text}</span>
        </span>
        <Icon name="next" className="size-5 text-muted" />
      </button>
      <input
        ref={input}
        type="file"
        hidden
        data-pick={props.pick}
        autoComplete="off"
        onChange={picked}
        {...INPUTS[props.pick]}
      />
    </>
  );
}

function Reading() {
  const reading = useApp((state) => state.reading);
  const { t } = useApp((state) => state.language);
  const { done, total } = reading ?? { done: 0, total: 0 };
  return (
    <Page back="#/">
      <Title>{t('select.reading')}</Title>
      <Card className="space-y-3 p-5">
        <Bar label={t('select.reading')} done={done} total={total} />
        <p className="text-muted">
          {total === 0 ? t('select.collecting') : t('select.readingText', { done, count: total })}
        </p>
      </Card>
    </Page>
  );
}

function Patients({ detection }: { readonly detection: Detection }) {
  const { t } = useApp((state) => state.language);
  return (
    <Page back="#/">
      <Title>{t('select.whoTitle')}</Title>
      <p className="text-muted">{t('select.whoText', { count: detection.patients.length })}</p>
      <ul className="space-y-3">
        {detection.patients.map((found) => (
          <li key={found.key}>
            <PatientChoice found={found} />
          </li>
        ))}
      </ul>
    </Page>
  );
}

function PatientChoice({ found }: { readonly found: FoundPatient }) {
  const { t, date, list } = useApp((state) => state.language);
  const { name, id, birthDate } = found.patient;
  const images = found.studies.reduce((sum, study) => sum + study.images, 0);
  const modalities = [...new Set(found.studies.flatMap((study) => study.modalities))];
  return (
    <button
      type="button"
      onClick={() => choose(found)}
      className="flex w-full cursor-pointer items-center gap-3 rounded-2xl border border-line bg-surface p-5 text-start shadow-card transition-colors hover:border-brand"
    >
      <span className="min-w-0 flex-1">
        <span className="block break-words font-semibold text-lg">
          <bdi>{readableName(name) || t('confirm.unnamed')}</bdi>
        </span>
        <span className="block text-muted text-sm">
          {t('confirm.born')} {date(birthDate) ?? t('confirm.unknown')} · {t('confirm.id')}{' '}
          <bdi>{id || t('confirm.unknown')}</bdi>
        </span>
        <span className="block text-muted text-sm">
          {[list(modalities), t('confirm.images', { count: images })].filter(Boolean).join(' · ')}
        </span>
      </span>
      <Icon name="next" className="size-5 text-muted" />
    </button>
  );
}
