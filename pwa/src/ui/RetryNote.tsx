/** Offline is an ordinary state: grey, with what to expect, and when it is tried again. */

import { useEffect, useState } from 'react';
import { go, tryNow, useApp } from '../state/store';
import { Button, Note } from './parts';

/** The whole seconds until a moment; it ticks only while it is shown. */
function useSecondsUntil(moment: number | null): number | null {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (moment === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [moment]);
  return moment === null ? null : Math.max(0, Math.ceil((moment - now) / 1000));
}

function Countdown() {
  const nextTry = useApp((state) => state.nextTry);
  const { t, span } = useApp((state) => state.language);
  const seconds = useSecondsUntil(nextTry);
  return (
    // Readers would hear every second; the button beside it says enough to them.
    <span className="text-muted text-sm tabular-nums" aria-hidden="true">
      {seconds === null || seconds === 0 ? t('link.trying') : t('link.nextTry', { span: span(seconds) })}
    </span>
  );
}

/** What is wrong between this device and the clinic's computer; nothing when all is well. */
export function LinkNote({ waiting }: { readonly waiting: boolean }) {
  const link = useApp((state) => state.link);
  const { t } = useApp((state) => state.language);
  if (link === 'refused') {
    const again = (
      <Button look="primary" onClick={() => go({ screen: 'enrol' })}>
        {t('refused.go')}
      </Button>
    );
    return (
      <Note tone="act" icon="alert" title={t('refused.title')} action={again}>
        <p>{t('refused.text')}</p>
      </Note>
    );
  }
  if (link === 'elsewhere') {
    return (
      <Note tone="quiet" icon="away" title={t('elsewhere.title')}>
        <p>{t('elsewhere.text')}</p>
      </Note>
    );
  }
  if (link !== 'unreachable' || !waiting) return null;
  const action = (
    <>
      <Button onClick={tryNow}>{t('link.tryNow')}</Button>
      <span className="flex items-center">
        <Countdown />
      </span>
    </>
  );
  return (
    <Note tone="quiet" icon="away" title={t('link.offlineTitle')} action={action}>
      <p>{t('link.offlineText')}</p>
    </Note>
  );
}
