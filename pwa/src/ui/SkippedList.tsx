/** What is left out, and why: nothing is dropped in silence. */

import type { Skipped } from '../domain/detection';
import { useApp } from '../state/store';
import { Icon } from './icons';

/** A CD with a viewer has hundreds of files that are no images. */
const SHOWN = 20;

export function SkippedList({ skipped }: { readonly skipped: readonly Skipped[] }) {
  const { t } = useApp((state) => state.language);
  const count = skipped.reduce((sum, { names }) => sum + names.length, 0);
  if (count === 0) return null;
  return (
    <details className="group text-sm">
      <summary className="flex min-h-12 cursor-pointer list-none items-center gap-1.5 font-medium text-muted [&::-webkit-details-marker]:hidden">
        {t('confirm.skipped', { count })}
        <Icon name="next" className="size-4 rotate-90 group-open:-rotate-90 rtl:scale-x-100" />
      </summary>
      <ul className="space-y-2 pb-3">
        {skipped.map(({ reason, names }) => (
          <li key={reason}>
            <p className="font-medium">
              {t(`skip.${reason}`)} ({names.length})
            </p>
            <p className="break-words text-muted">
              <bdi>{names.slice(0, SHOWN).join(', ')}</bdi>
              {names.length > SHOWN && ' …'}
            </p>
          </li>
        ))}
      </ul>
    </details>
  );
}
