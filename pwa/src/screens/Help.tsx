/** What is safe now, and answers to what people ask. Works without a network. */

import { isSettledItem } from '../domain/outbox';
import { hasBackgroundSync } from '../engine/background';
import { useApp } from '../state/store';
import { Icon, type IconName } from '../ui/icons';
import { Card, Page, Title } from '../ui/parts';

const QUESTIONS = [
  'offline',
  'close',
  'medium',
  'wrong',
  'lost',
  'room',
  'red',
  'deleted',
  'private',
] as const;

export function Help() {
  const { t } = useApp((state) => state.language);
  return (
    <Page back="#/">
      <Title>{t('help.title')}</Title>
      <SafeNow />
      <Card className="divide-y divide-line px-5">
        {QUESTIONS.map((name) => (
          <details key={name} className="group">
            <summary className="flex min-h-14 cursor-pointer list-none items-center justify-between gap-3 py-3 font-semibold leading-snug [&::-webkit-details-marker]:hidden">
              {t(`help.${name}`)}
              <Icon name="next" className="size-5 rotate-90 text-muted group-open:-rotate-90" />
            </summary>
            <p className="pb-4">{t(`answer.${name}`)}</p>
          </details>
        ))}
      </Card>
    </Page>
  );
}

/** The state of everything in a few lines: what a person who is called away needs to know. */
function SafeNow() {
  const items = useApp((state) => state.items);
  const { t } = useApp((state) => state.language);
  const open = items.filter((item) => !isSettledItem(item));
  const here = open.filter((item) => !item.kept).length;
  const clinic = open.filter((item) => item.kept).length;
  const arrived = items.filter(isSettledItem).length;
  const lines: readonly (readonly [IconName, boolean, string])[] = [
    ['phone', here > 0, t('safe.here', { count: here })],
    ['clinic', clinic > 0, t('safe.clinic', { count: clinic })],
    ['check', arrived > 0, t('safe.arrived', { count: arrived })],
  ];
  const shown = lines.filter(([, holds]) => holds);
  return (
    <Card className="space-y-3 p-5">
      <h2 className="font-semibold">{t('safe.title')}</h2>
      {shown.length === 0 && <p className="text-muted">{t('safe.nothing')}</p>}
      <ul className="space-y-3">
        {shown.map(([icon, , text]) => (
          <li key={icon} className="flex gap-3">
            <span className="grid size-8 shrink-0 place-items-center rounded-full bg-done-soft text-done">
              <Icon name={icon} className="size-5" />
            </span>
            <span className="min-w-0 pt-0.5">{text}</span>
          </li>
        ))}
      </ul>
      <p className="text-muted">{t(hasBackgroundSync() ? 'safe.background' : 'safe.reopen')}</p>
    </Card>
  );
}
