/** What arrived, by code and date: a receipt, without a patient. */

import { isSettledItem } from '../domain/outbox';
import { useApp } from '../state/store';
import { ItemCard } from '../ui/ItemCard';
import { Page, Title } from '../ui/parts';

export function History() {
  const items = useApp((state) => state.items);
  const { t } = useApp((state) => state.language);
  const arrived = items.filter(isSettledItem).sort((a, b) => b.savedAt - a.savedAt);
  return (
    <Page back="#/">
      <Title>{t('history.title')}</Title>
      <p className="text-muted">{t(arrived.length === 0 ? 'history.none' : 'history.lead')}</p>
      <ul className="space-y-3">
        {arrived.map((item) => (
          <li key={item.id}>
            <ItemCard item={item} />
          </li>
        ))}
      </ul>
    </Page>
  );
}
