/** Delete a study that the clinic does not keep yet, after a question. */

import { useRef, useState } from 'react';
import { type TakenBack, takeBack } from '../state/acting';
import { go, useApp } from '../state/store';
import { Button } from './parts';

const FAILED: Readonly<Record<Exclude<TakenBack, 'taken-back'>, string>> = {
  'too-late': 'study.takeBackLate',
  unreachable: 'study.takeBackFailed',
};

export function TakeBack({ id, label }: { readonly id: string; readonly label: string }) {
  const { t } = useApp((state) => state.language);
  const dialog = useRef<HTMLDialogElement>(null);
  const [failed, setFailed] = useState<Exclude<TakenBack, 'taken-back'> | null>(null);
  async function remove(): Promise<void> {
    const result = await takeBack(id);
    if (result === 'taken-back') go({ screen: 'home' });
    else setFailed(result);
  }
  return (
    <>
      <Button look="plain" onClick={() => dialog.current?.showModal()}>
        {label}
      </Button>
      <dialog
        ref={dialog}
        aria-labelledby="take-back"
        onClose={() => setFailed(null)}
        className="m-auto w-[calc(100%-2rem)] max-w-md space-y-4 rounded-2xl bg-surface p-6 text-ink"
      >
        <h2 id="take-back" className="font-bold text-xl">
          {t('study.takeBackTitle')}
        </h2>
        <p>{t('study.takeBackText')}</p>
        {failed && (
          <p role="alert" className="font-medium">
            {t(FAILED[failed])}
          </p>
        )}
        <div className="grid gap-2 sm:grid-cols-2">
          <Button onClick={() => dialog.current?.close()}>{t('study.takeBackStay')}</Button>
          <Button look="danger" onClick={() => void remove()}>
            {t('study.takeBackGo')}
          </Button>
        </div>
      </dialog>
    </>
  );
}
