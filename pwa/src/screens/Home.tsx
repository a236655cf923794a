/** One thing to do, and where everything is. */

import { isSettledItem, type OutboxItem } from '../domain/outbox';
import { start } from '../state/choosing';
import { useApp } from '../state/store';
import { InstallNote } from '../ui/InstallNote';
import { ItemCard } from '../ui/ItemCard';
import { Icon } from '../ui/icons';
import { Button, Card, Title } from '../ui/parts';
import { LinkNote } from '../ui/RetryNote';

/** How many arrived studies Home shows; the others are in the history. */
const RECENT = 3;

export function Home() {
  const items = useApp((state) => state.items);
  const { t } = useApp((state) => state.language);
  const newest = [...items].sort((a, b) => b.savedAt - a.savedAt);
  const onTheWay = newest.filter((item) => !isSettledItem(item));
  const arrived = newest.filter(isSettledItem);
  return (
    <div className="grid gap-8 lg:grid-cols-[5fr_6fr] lg:gap-12">
      <section className="space-y-4 lg:sticky lg:top-10 lg:self-start">
        <Card className="space-y-4 p-5 sm:p-7">
          <Title>{t('home.title')}</Title>
          <p className="text-muted sm:text-lg">{t('home.lead')}</p>
          <Button look="primary" icon="upload" wide className="min-h-16 text-lg" onClick={start}>
            {t('home.upload')}
          </Button>
          <p className="hidden text-center text-muted text-sm pointer-fine:block">{t('home.drop')}</p>
        </Card>
        <TroublesLink />
        <LinkNote waiting={onTheWay.length > 0} />
      </section>
      <div className="space-y-8">
        <section className="space-y-3" aria-labelledby="on-the-way">
          <h2 id="on-the-way" className="font-semibold text-lg">
            {t('home.onTheWay')}
          </h2>
          {onTheWay.length === 0 ? <Nothing /> : <ItemList items={onTheWay} />}
        </section>
        {arrived.length > 0 && (
          <section className="space-y-3" aria-labelledby="arrived">
            <h2 id="arrived" className="font-semibold text-lg">
              {t('home.arrived')}
            </h2>
            <ItemList items={arrived.slice(0, RECENT)} />
            <a
              href="#/history"
              className="inline-flex min-h-12 items-center gap-1 rounded-xl font-medium text-brand hover:underline"
            >
              {t('home.history')}
              <Icon name="next" className="size-4" />
            </a>
          </section>
        )}
        <InstallNote />
      </div>
    </div>
  );
}

function ItemList({ items }: { readonly items: readonly OutboxItem[] }) {
  return (
    <ul className="space-y-3">
      {items.map((item) => (
        <li key={item.id}>
          <ItemCard item={item} />
        </li>
      ))}
    </ul>
  );
}

function Nothing() {
  const { t } = useApp((state) => state.language);
  return (
    <div className="rounded-2xl border border-line border-dashed px-5 py-8 text-center text-muted">
      <p className="font-medium">{t('home.nothing')}</p>
      <p className="text-sm">{t('home.nothingText')}</p>
    </div>
  );
}

/** For who may decide: studies that wait for a decision. */
function TroublesLink() {
  const count = useApp((state) => state.troubles.length);
  const { t } = useApp((state) => state.language);
  if (count === 0) return null;
  return (
    <a
      href="#/troubles"
      className="flex min-h-14 items-center gap-3 rounded-2xl bg-act-soft p-4 font-semibold hover:underline"
    >
      <Icon name="alert" className="size-6 text-act" />
      <span className="min-w-0 flex-1">{t('troubles.link', { count })}</span>
      <Icon name="next" className="size-5 text-muted" />
    </a>
  );
}
