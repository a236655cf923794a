/** One study as a card: who or which code, one sentence, how far. */

import { shortCode } from '../domain/codes';
import type { OutboxItem } from '../domain/outbox';
import { readableName } from '../domain/units';
import { type AppState, useApp } from '../state/store';
import { Icon } from './icons';
import { ShortChain, TONES, useSentence } from './journey';

/** Return the codes that people read to each other for an item. */
export function codeOf(item: OutboxItem): string {
  const codes = item.entries.map((entry) => entry.code).filter(Boolean);
  return codes.length > 0 ? codes.join(', ') : shortCode(item.id);
}

/** Return what an item is called: the patient's name while it is here, then its code. */
export function useName(item: OutboxItem): string {
  const name = useApp((state: AppState) => state.details[item.id]?.patient.name ?? '');
  const { t } = useApp((state) => state.language);
  return readableName(name) || t('study.anonymous', { code: codeOf(item) });
}

export function UrgentBadge() {
  const { t } = useApp((state) => state.language);
  return (
    <span className="shrink-0 rounded-full bg-urgent-soft px-2.5 py-0.5 font-semibold text-sm text-urgent">
      {t('study.urgent')}
    </span>
  );
}

export function ItemCard({ item }: { readonly item: OutboxItem }) {
  const { t, list, moment } = useApp((state) => state.language);
  const { text, tone, icon } = useSentence(item);
  const name = useName(item);
  return (
    <a
      href={`#/study/${item.id}`}
      className="block space-y-3 rounded-2xl border border-line bg-surface p-4 shadow-card transition-colors hover:border-brand"
    >
      <div className="flex items-start justify-between gap-3">
        <div className="min-w-0">
          <p className="break-words font-semibold text-lg leading-snug">
            <bdi>{name}</bdi>
          </p>
          <p className="text-muted text-sm">
            {[list(item.modalities), t('confirm.images', { count: item.images }), moment(item.savedAt)]
              .filter(Boolean)
              .join(' · ')}
          </p>
        </div>
        {item.urgent && <UrgentBadge />}
      </div>
      <ShortChain item={item} />
      <p className={`flex items-start gap-2 font-medium text-sm ${TONES[tone]}`}>
        <Icon name={icon} className="size-5" />
        {text}
      </p>
    </a>
  );
}
