/** What is left out, and why: nothing is dropped in silence. */

import type { Skipped } from '../domain/detection';
import { useApp } from '../state/store';

/** A CD with a viewer has hundreds of files that are no images. */
const SHOWN = 20;

export function SkippedList({ skipped }: { readonly skipped: readonly Skipped[] }) {
  const { t } = useApp((state) => state.language);
  const count = skipped.reduce((sum, { names }) => sum + names.length, 0);
  if (count === 0) return null;
  return (
    <details className="group text-sm">
      <summary className="flex min-h-12 cursor-pointer items-center font-medium text-muted">
        {t('confirm.skipped', { count })}
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
