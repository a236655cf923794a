/** One study's way, until the hospital has confirmed it; then `Done`. */

import { useEffect, useState } from 'react';
import { aside, safety } from '../domain/journey';
import { isSettledItem, type OutboxItem } from '../domain/outbox';
import { type Pace, remaining } from '../domain/pace';
import { hasBackgroundSync } from '../engine/background';
import { eraseLeftover } from '../state/acting';
import { start } from '../state/choosing';
import { go, useApp } from '../state/store';
import { codeOf, UrgentBadge, useName } from '../ui/ItemCard';
import { Icon } from '../ui/icons';
import { Chain, TONES, useSentence } from '../ui/journey';
import { Problem } from '../ui/Problem';
import { Bar, Button, Card, Note, Page, Title } from '../ui/parts';
import { LinkNote } from '../ui/RetryNote';
import { TakeBack } from '../ui/TakeBack';
import { Withdraw } from '../ui/Withdraw';
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
  const { text, tone } = useSentence(item);
  const name = useName(item);
  const destination = useApp((state) => state.details[item.id]?.confirmation.destination);
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
        {destination && (
          <p className="text-muted text-sm">
            {t('confirm.archive')}: <bdi>{destination}</bdi>
          </p>
        )}
      </header>
      {item.problem !== null && <Problem item={item} code={item.problem} />}
      {item.problem === null && (
        <>
          <Card className="space-y-4 p-5">
            <p
              aria-live="polite"
              className={`text-balance font-semibold text-xl leading-snug ${TONES[tone]}`}
            >
              {text}
            </p>
            <Besides item={item} />
            <Sending item={item} />
            <Safety item={item} />
          </Card>
          <LinkNote waiting />
        </>
      )}
      {item.leftover && <Leftover item={item} />}
      <Card className="p-5">
        <h2 className="mb-4 font-semibold">{t('study.title')}</h2>
        <Chain item={item} />
      </Card>
      <div className="grid gap-2 sm:flex sm:justify-between">
        <Button icon="upload" onClick={start}>
          {t('study.another')}
        </Button>
        {!item.kept && item.problem === null && <TakeBack id={item.id} label={t('study.takeBack')} />}
        {item.kept && <Withdraw item={item} />}
      </div>
    </Page>
  );
}

/** What holds the study up on its further way, or how long it may take. */
function Besides({ item }: { readonly item: OutboxItem }) {
  const { t, span } = useApp((state) => state.language);
  const said = aside(item);
  if (said === null) return null;
  const values =
    said.key === 'aside.silent'
      ? { count: said.count }
      : said.key === 'aside.estimate'
        ? { span: span(said.seconds) }
        : {};
  return <p className="text-muted text-sm">{t(said.key, values)}</p>;
}

function Sending({ item }: { readonly item: OutboxItem }) {
  const activity = useApp((state) => state.activity[item.id]);
  const { t, size } = useApp((state) => state.language);
  if (activity === undefined || item.received) return null;
  const { sent, total } = activity;
  return (
    <div className="space-y-1">
      <Bar label={t('journey.sending')} done={sent} total={total} />
      <p className="text-muted text-sm tabular-nums">
        {t('study.left', { left: size(total - sent), total: size(total) })} <Rest pace={activity} />
      </p>
    </div>
  );
}

/** How long it may still take: a range, since a clinic's line is what it is at each moment. */
function Rest({ pace }: { readonly pace: Pace }) {
  const { t, span } = useApp((state) => state.language);
  const rest = remaining(pace, performance.now());
  if (rest === null) return null;
  const from = span(rest.from);
  const to = span(rest.to);
  return <span>{from === to ? t('study.about', { span: to }) : t('study.between', { from, to })}</span>;
}

/** The two lines that let a person walk away. */
function Safety({ item }: { readonly item: OutboxItem }) {
  const sending = useApp((state) => state.activity[item.id] !== undefined);
  const { t } = useApp((state) => state.language);
  const { closing, removeMedium } = safety(item, { background: hasBackgroundSync(), sending });
  const stay = closing === 'stay';
  return (
    <ul className="space-y-3 border-line border-t pt-4">
      <SafetyLine
        safe={!stay}
        icon="phone"
        title={t(stay ? 'study.stay' : 'study.close')}
        text={t(`closing.${closing}`)}
      />
      <SafetyLine
        safe={removeMedium}
        icon="disc"
        title={t(removeMedium ? 'study.remove' : 'study.keepMedium')}
        text={t(removeMedium ? 'study.removeText' : 'study.keepMediumText')}
      />
    </ul>
  );
}

/** Files that could not be used: the clinic's computer keeps them until a person says that they may go. */
function Leftover({ item }: { readonly item: OutboxItem }) {
  const { t } = useApp((state) => state.language);
  const { partly } = item;
  const [failed, setFailed] = useState(false);
  const action = (
    <Button onClick={() => void eraseLeftover(item).then((done) => setFailed(!done))}>
      {t(partly === null ? 'leftover.erase' : 'leftover.again')}
    </Button>
  );
  return (
    <Note
      tone="urgent"
      icon="files"
      title={t(partly === null ? 'leftover.title' : 'leftover.partlyTitle')}
      action={action}
    >
      <p>
        {partly === null
          ? t('leftover.text')
          : t(partly === 'partly-kept' ? 'leftover.partly-kept' : 'leftover.partly', { code: partly })}
      </p>
      {failed && <p className="font-medium">{t('study.takeBackFailed')}</p>}
    </Note>
  );
}

function SafetyLine(props: {
  readonly safe: boolean;
  readonly icon: 'phone' | 'disc';
  readonly title: string;
  readonly text: string;
}) {
  return (
    <li className="flex gap-3">
      <span
        className={`grid size-8 shrink-0 place-items-center rounded-full ${props.safe ? 'bg-done-soft text-done' : 'bg-sunken text-muted'}`}
      >
        <Icon name={props.safe ? 'check' : props.icon} className="size-5" />
      </span>
      <div className="min-w-0 pt-0.5">
        <p className="font-semibold">{props.title}</p>
        <p className="text-muted text-sm">{props.text}</p>
      </div>
    </li>
  );
}
