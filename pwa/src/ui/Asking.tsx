/** A question before something is ended, and why it could not be. */

import { type ReactNode, useId, useRef, useState } from 'react';
import { useApp } from '../state/store';
import { Button } from './parts';

/**
 * A button that asks first.
 *
 * `end` does it: null when it is done, else the key of the sentence that says why not.
 */
export function Asking(props: {
  readonly label: string;
  readonly text: string;
  readonly ready?: boolean;
  readonly end: () => Promise<string | null>;
  readonly children?: ReactNode;
}) {
  const { t } = useApp((state) => state.language);
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const [failed, setFailed] = useState<string | null>(null);
  async function go(): Promise<void> {
    const why = await props.end();
    if (why === null) dialog.current?.close();
    else setFailed(why);
  }
  return (
    <>
      <Button look="plain" onClick={() => dialog.current?.showModal()}>
        {props.label}
      </Button>
      <dialog
        ref={dialog}
        aria-labelledby={title}
        onClose={() => setFailed(null)}
        className="m-auto w-[calc(100%-2rem)] max-w-md space-y-4 rounded-2xl bg-surface p-6 text-ink"
      >
        <h2 id={title} className="font-bold text-xl">
          {t('study.takeBackTitle')}
        </h2>
        <p>{props.text}</p>
        {props.children}
        {failed && (
          <p role="alert" className="font-medium">
            {t(failed)}
          </p>
        )}
        <div className="grid gap-2 sm:grid-cols-2">
          <Button onClick={() => dialog.current?.close()}>{t('study.takeBackStay')}</Button>
          <Button look="danger" disabled={props.ready === false} onClick={() => void go()}>
            {t('study.takeBackGo')}
          </Button>
        </div>
      </dialog>
    </>
  );
}
