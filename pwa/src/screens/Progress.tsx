/** One study's way, until the hospital has confirmed it; then `Done`. */

import { useEffect, useRef, useState } from 'react';
import { safety } from '../domain/journey';
import { isSettledItem, type OutboxItem } from '../domain/outbox';
import { hasBackgroundSync } from '../engine/background';
import { go, start, type TakenBack, takeBack, tryAgain, tryNow, useApp } from '../state/store';
import { codeOf, UrgentBadge, useName } from '../ui/ItemCard';
import { Icon } from '../ui/icons';
import { Chain, TONES, useSentence } from '../ui/journey';
import { Bar, Button, Card, Note, Page, Title } from '../ui/parts';
import { Done } from './Done';

export function Study({ id }: { readonly id: string }) {
  const item = useApp((state) => state.items.find((known) => known.id === id));
  useEffect(() => {
    if (item === undefined) go({ screen: 'home' });
  }, [item]);
  if (item === undefined) return null;
  return isSettledItem(item) ? <Done item={item} /> : <Progress item={item} />;
}

function Progress({ item }: { readonly item: OutboxItem }) {
  const { t, list, moment } = useApp((state) => state.language);
  const link = useApp((state) => state.link);
  const { text, tone } = useSentence(item);
  const name = useName(item);
  return (
    <Page back="#/">
      <header className="space-y-1">
        <div className="flex items-start justify-between gap-3">
          <Title>
            <bdi>{name}</bdi>
          </Title>
          {item.urgent && <UrgentBadge />}
        </div>
        <p className="text-muted">
          {[list(item.modalities), t('confirm.images', { count: item.images })].filter(Boolean).join(' · ')}
        </p>
        <p className="text-muted text-sm">
          {t('study.saved', { when: moment(item.savedAt) })}
          {item.kept && ` · ${t('study.code')} ${codeOf(item)}`}
        </p>
      </header>
      {item.problem !== null && <Problem item={item} code={item.problem} />}
      <Card className="space-y-4 p-5">
        <p aria-live="polite" className={`text-balance font-semibold text-xl leading-snug ${TONES[tone]}`}>
          {text}
        </p>
        <Sending item={item} />
        {item.problem === null && <Safety item={item} />}
      </Card>
      {link === 'unreachable' && item.problem === null && (
        <Note tone="quiet" icon="away" action={<Button onClick={tryNow}>{t('link.tryNow')}</Button>}>
          <p>{t('link.offlineText')}</p>
        </Note>
      )}
      <Card className="p-5">
        <h2 className="mb-4 font-semibold">{t('study.title')}</h2>
        <Chain item={item} />
      </Card>
      <div className="grid gap-2 sm:flex sm:justify-between">
        <Button icon="upload" onClick={start}>
          {t('study.another')}
        </Button>
        {!item.kept && item.problem === null && <TakeBack id={item.id} label={t('study.takeBack')} />}
      </div>
    </Page>
  );
}

function Sending({ item }: { readonly item: OutboxItem }) {
  const activity = useApp((state) => state.activity[item.id]);
  const { t, size } = useApp((state) => state.language);
  if (activity === undefined || item.received) return null;
  return (
    <div className="space-y-1">
      <Bar label={t('journey.sending')} done={activity.sent} total={activity.total} />
      <p className="text-muted text-sm tabular-nums">
        {t('study.sent', { sent: size(activity.sent), total: size(activity.total) })}
      </p>
    </div>
  );
}

/** The two lines that let a person walk away. */
function Safety({ item }: { readonly item: OutboxItem }) {
  const { t } = useApp((state) => state.language);
  const { removeMedium } = safety(item);
  const goesOn = item.kept ? '' : t(hasBackgroundSync() ? 'study.closeBackground' : 'study.closeResume');
  return (
    <ul className="space-y-3 border-line border-t pt-4">
      <SafetyLine safe title={t('study.close')} text={`${t('study.closeText')} ${goesOn}`.trim()} />
      {removeMedium ? (
        <SafetyLine safe title={t('study.remove')} text={t('study.removeText')} />
      ) : (
        <SafetyLine safe={false} title={t('study.keepMedium')} text={t('study.keepMediumText')} />
      )}
    </ul>
  );
}

function SafetyLine(props: { readonly safe: boolean; readonly title: string; readonly text: string }) {
  return (
    <li className="flex gap-3">
      <span
        className={`grid size-8 shrink-0 place-items-center rounded-full ${props.safe ? 'bg-done-soft text-done' : 'bg-sunken text-muted'}`}
      >
        <Icon name={props.safe ? 'check' : 'disc'} className="size-5" />
      </span>
      <div className="min-w-0 pt-0.5">
        <p className="font-semibold">{props.title}</p>
        <p className="text-muted text-sm">{props.text}</p>
      </div>
    </li>
  );
}

/** Codes that have a sentence of their own. */
const EXPLAINED = new Set(['local-copy-lost', 'differs']);

function Problem({ item, code }: { readonly item: OutboxItem; readonly code: string }) {
  const { t } = useApp((state) => state.language);
  const lost = code === 'local-copy-lost';
  const actions = (
    <>
      {!lost && <Button onClick={() => void tryAgain(item.id)}>{t('problem.again')}</Button>}
      <TakeBack id={item.id} label={t('problem.remove')} />
    </>
  );
  return (
    <Note tone="act" icon="alert" title={t('problem.title')} action={actions}>
      <p>{EXPLAINED.has(code) ? t(`problem.${code}`) : t('problem.other', { code })}</p>
      <p>{t(lost ? 'problem.local-copy-lost-safe' : 'problem.safe')}</p>
    </Note>
  );
}

const FAILED: Readonly<Record<Exclude<TakenBack, 'taken-back'>, string>> = {
  'too-late': 'study.takeBackLate',
  unreachable: 'study.takeBackFailed',
};

function TakeBack({ id, label }: { readonly id: string; readonly label: string }) {
  const { t } = useApp((state) => state.language);
  const dialog = useRef<HTMLDialogElement>(null);
  const [failed, setFailed] = useState<Exclude<TakenBack, 'taken-back'> | null>(null);
  async function remove(): Promise<void> {
    const result = await takeBack(id);
    if (result === 'taken-back') go({ screen: 'home' });
    else setFailed(result);
  }
  return (
    <>
      <Button look="plain" onClick={() => dialog.current?.showModal()}>
        {label}
      </Button>
      <dialog
        ref={dialog}
        aria-labelledby="take-back"
        onClose={() => setFailed(null)}
        className="m-auto w-[calc(100%-2rem)] max-w-md space-y-4 rounded-2xl bg-surface p-6 text-ink"
      >
        <h2 id="take-back" className="font-bold text-xl">
          {t('study.takeBackTitle')}
        </h2>
        <p>{t('study.takeBackText')}</p>
        {failed && (
          <p role="alert" className="font-medium">
            {t(FAILED[failed])}
          </p>
        )}
        <div className="grid gap-2 sm:grid-cols-2">
          <Button onClick={() => dialog.current?.close()}>{t('study.takeBackStay')}</Button>
          <Button look="danger" onClick={() => void remove()}>
            {t('study.takeBackGo')}
          </Button>
        </div>
      </dialog>
    </>
  );
}
