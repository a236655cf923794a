/** Choose one of the PACS that the mesh knows. */

import { BY_RULES } from '../domain/destinations';
import { useApp } from '../state/store';
import { FIELD } from './parts';

export function Destinations(props: {
  readonly id: string;
  readonly label: string;
  readonly names: readonly string[];
  /** Whether the mesh may decide as well. */
  readonly byRules?: boolean;
  /** Null while nothing is chosen. */
  readonly chosen: string | null;
  readonly choose: (name: string | null) => void;
}) {
  const { t } = useApp((state) => state.language);
  // A name of a PACS is never a blank: this stands for "nothing yet".
  const nothing = ' ';
  return (
    <div className="space-y-2">
      <label htmlFor={props.id} className="font-semibold">
        {props.label}
      </label>
      <select
        id={props.id}
        className={FIELD}
        value={props.chosen ?? nothing}
        autoComplete="off"
        onChange={({ target }) => props.choose(target.value === nothing ? null : target.value)}
      >
        {(props.chosen === null || !props.byRules) && <option value={nothing}>…</option>}
        {props.byRules && <option value={BY_RULES}>{t('confirm.byRules')}</option>}
        {props.names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </div>
  );
}
