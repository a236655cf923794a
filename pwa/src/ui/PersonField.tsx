/** Who decides: the name stands in a signed fact for ever. */

import { useApp } from '../state/store';
import { FIELD } from './parts';

interface Props {
  readonly id: string;
  readonly person: string;
  readonly change: (person: string) => void;
}

export function PersonField({ id, person, change }: Props) {
  const { t } = useApp((state) => state.language);
  return (
    <div className="space-y-2">
      <label htmlFor={id} className="font-medium">
        {t('troubles.person')}
      </label>
      <input
        id={id}
        className={FIELD}
        value={person}
        maxLength={64}
        autoComplete="off"
        onChange={(event) => change(event.target.value)}
      />
      <p className="text-muted text-sm">{t('troubles.personHint')}</p>
    </div>
  );
}
