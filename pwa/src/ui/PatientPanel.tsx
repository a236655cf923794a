/** Who the patient is, large enough to compare across a desk. Read-only: the images say it. */

import type { Patient } from '../domain/detection';
import { readableName } from '../domain/units';
import { useApp } from '../state/store';
import { Card } from './parts';

const SEXES: Readonly<Record<string, string>> = { M: 'confirm.sexM', F: 'confirm.sexF', O: 'confirm.sexO' };

export function PatientPanel({ patient }: { readonly patient: Patient }) {
  const { t, date } = useApp((state) => state.language);
  const sex = SEXES[patient.sex];
  const facts = [
    [t('confirm.born'), date(patient.birthDate) ?? t('confirm.unknown')],
    [t('confirm.id'), patient.id || t('confirm.unknown')],
    [t('confirm.sex'), sex === undefined ? t('confirm.unknown') : t(sex)],
  ] as const;
  return (
    <Card className="border-s-4 border-s-brand p-5">
      <p className="break-words font-bold text-2xl leading-tight">
        <bdi>{readableName(patient.name) || t('confirm.unnamed')}</bdi>
      </p>
      <dl className="mt-3 grid grid-cols-2 gap-x-4 gap-y-3 sm:grid-cols-3">
        {facts.map(([term, fact]) => (
          <div key={term} className="min-w-0">
            <dt className="text-muted text-sm">{term}</dt>
            <dd className="break-words font-semibold text-lg">
              <bdi>{fact}</bdi>
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
