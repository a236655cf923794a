/** End a study that is on its way already: for who looks after a clinic, with his name and a reason. */

import { useState } from 'react';
import type { OutboxItem } from '../domain/outbox';
import { withdraw } from '../state/acting';
import { useApp } from '../state/store';
import { Asking } from './Asking';
import { PersonField } from './PersonField';

export function Withdraw({ item }: { readonly item: OutboxItem }) {
  const { t } = useApp((state) => state.language);
  const role = useApp((state) => state.device?.role);
  const [person, setPerson] = useState('');
  if (role !== 'lead' && role !== 'admin') return null;
  async function end(): Promise<string | null> {
    // The reason stands in a signed fact for ever: chosen words, nothing of the patient.
    const result = await withdraw(item, person.trim(), 'wrong study');
    if (result === 'withdrawn') return null;
    return result === 'may-not' ? 'withdraw.mayNot' : 'study.takeBackFailed';
  }
  return (
    <Asking label={t('study.takeBack')} text={t('withdraw.text')} ready={person.trim() !== ''} end={end}>
      <PersonField id="withdraw-person" person={person} change={setPerson} />
    </Asking>
  );
}
