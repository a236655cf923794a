/** End a study that is on its way already: for who looks after a clinic, with his name and a reason. */

import { useRef, useState } from 'react';
import type { OutboxItem } from '../domain/outbox';
import { type Withdrawn, withdraw } from '../state/acting';
import { useApp } from '../state/store';
import { Button, FIELD } from './parts';

const FAILED: Readonly<Record<Exclude<Withdrawn, 'withdrawn'>, string>> = {
  'may-not': 'withdraw.mayNot',
  unreachable: 'study.takeBackFailed',
};

export function Withdraw({ item }: { readonly item: OutboxItem }) {
  const { t } = useApp((state) => state.language);
  const role = useApp((state) => state.device?.role);
  const dialog = useRef<HTMLDialogElement>(null);
  const [person, setPerson] = useState('');
  const [failed, setFailed] = useState<Exclude<Withdrawn, 'withdrawn'> | null>(null);
  if (role !== 'lead' && role !== 'admin') return null;
  async function end(): Promise<void> {
    // The reason stands in a signed fact for ever: chosen words, nothing of the patient.
    const result = await withdraw(item, person.trim(), 'wrong study');
    if (result === 'withdrawn') dialog.current?.close();
    else setFailed(result);
  }
  return (
    <>
      <Button look="plain" onClick={() => dialog.current?.showModal()}>
        {t('study.takeBack')}
      </Button>
      <dialog
        ref={dialog}
        aria-labelledby="withdraw"
        onClose={() => setFailed(null)}
        className="m-auto w-[calc(100%-2rem)] max-w-md space-y-4 rounded-2xl bg-surface p-6 text-ink"
      >
        <h2 id="withdraw" className="font-bold text-xl">
          {t('study.takeBackTitle')}
        </h2>
        <p>{t('withdraw.text')}</p>
        <div className="space-y-1">
          <label htmlFor="withdraw-person" className="font-medium">
            {t('troubles.person')}
          </label>
          <input
            id="withdraw-person"
            className={FIELD}
            value={person}
            maxLength={64}
            autoComplete="off"
            onChange={(event) => setPerson(event.target.value)}
          />
          <p className="text-muted text-sm">{t('troubles.personHint')}</p>
        </div>
        {failed && (
          <p role="alert" className="font-medium">
            {t(FAILED[failed])}
          </p>
        )}
        <div className="grid gap-2 sm:grid-cols-2">
          <Button onClick={() => dialog.current?.close()}>{t('study.takeBackStay')}</Button>
          <Button look="danger" disabled={person.trim() === ''} onClick={() => void end()}>
            {t('study.takeBackGo')}
          </Button>
        </div>
      </dialog>
    </>
  );
}
