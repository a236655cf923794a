/** The end of the story: the hospital has it, and nothing of the patient is left here. */

import { isWithdrawn, type OutboxItem } from '../domain/outbox';
import { start } from '../state/choosing';
import { useApp } from '../state/store';
import { codeOf } from '../ui/ItemCard';
import { Icon } from '../ui/icons';
import { Chain } from '../ui/journey';
import { Button, Card, Page, Title } from '../ui/parts';

const ENDINGS = {
  confirmed: { title: 'done.title', text: 'done.text', icon: 'check', mark: 'bg-done-soft text-done' },
  withdrawn: {
    title: 'done.withdrawnTitle',
    text: 'done.withdrawnText',
    icon: 'back',
    mark: 'bg-sunken text-muted',
  },
  recalled: {
    title: 'done.recalledTitle',
    text: 'done.recalledText',
    icon: 'cloud',
    mark: 'bg-sunken text-muted',
  },
} as const;

function endingOf(item: OutboxItem): keyof typeof ENDINGS {
  if (item.entries.some(isWithdrawn)) return 'withdrawn';
  return item.entries.some((entry) => entry.state === 'recalled') ? 'recalled' : 'confirmed';
}

export function Done({ item }: { readonly item: OutboxItem }) {
  const { t, list } = useApp((state) => state.language);
  const { title, text, icon, mark } = ENDINGS[endingOf(item)];
  return (
    <Page back="#/">
      <Card className="flex flex-col items-center gap-3 px-5 py-8 text-center">
        <span className={`grid size-20 place-items-center rounded-full ${mark}`}>
          <Icon name={icon} className="size-11" />
        </span>
        <Title>{t(title)}</Title>
        <p className="text-balance text-muted">{t(text)}</p>
        <p className="rounded-xl bg-sunken px-4 py-2">
          <span className="text-muted">{t('study.code')} </span>
          <strong className="font-mono tracking-wide">{codeOf(item)}</strong>
        </p>
        <p className="text-muted text-sm">
          {[list(item.modalities), t('confirm.images', { count: item.images })].filter(Boolean).join(' · ')}
        </p>
        {item.detailsErased && (
          <p className="flex items-center gap-2 font-medium text-done text-sm">
            <Icon name="pacs" className="size-5" />
            {t('done.wiped')}
          </p>
        )}
      </Card>
      <Card className="p-5">
        <h2 className="mb-4 font-semibold">{t('study.title')}</h2>
        <Chain item={item} />
      </Card>
      <Button look="primary" icon="upload" wide onClick={start}>
        {t('study.another')}
      </Button>
    </Page>
  );
}
