/** A study that needs the person who handed it in: what happened, is it safe, what to do. */

import { useEffect, useState } from 'react';
import type { Submission } from '../api/types';
import { type OutboxItem, TRIED_AGAIN } from '../domain/outbox';
import { confirmArrived, submissionOf, tryAgain } from '../state/acting';
import { start } from '../state/choosing';
import { useApp } from '../state/store';
import { Button, Note } from './parts';
import { TakeBack } from './TakeBack';

/** What is asked again gets the same answer: it has to be chosen anew. */
const FOR_GOOD = new Set(['local-copy-lost', 'differs', 'mixed-patients', 'several-patients']);
/** Codes that have a sentence of their own (docs/journeys.md). */
const EXPLAINED = new Set([
  'local-copy-lost',
  'differs',
  'nothing-to-send',
  'upload-damaged',
  'too-large',
  'submission-differs',
  'confirmation-differs',
  'destination-unknown',
  'mixed-patients',
  'several-patients',
]);

export function Problem({ item, code }: { readonly item: OutboxItem; readonly code: string }) {
  const { t } = useApp((state) => state.language);
  const lost = code === 'local-copy-lost';
  const actions = (
    <>
      {code === 'differs' && <ConfirmArrived item={item} />}
      {lost && (
        <Button look="primary" onClick={start}>
          {t('confirm.choose')}
        </Button>
      )}
      {!FOR_GOOD.has(code) && <Button onClick={() => void tryAgain(item.id)}>{t('problem.again')}</Button>}
      <TakeBack id={item.id} label={t('problem.remove')} />
    </>
  );
  return (
    <Note
      tone={TRIED_AGAIN.has(code) ? 'urgent' : 'act'}
      icon="alert"
      title={t(TRIED_AGAIN.has(code) ? 'problem.waits' : 'problem.title')}
      action={actions}
    >
      <p>{EXPLAINED.has(code) ? t(`problem.${code}`) : t('problem.other', { code })}</p>
      <p>{t(lost ? 'problem.local-copy-lost-safe' : 'problem.safe')}</p>
    </Note>
  );
}

/** Some files of the CD could not be read whole: a person says whether the rest is to go. */
function ConfirmArrived({ item }: { readonly item: OutboxItem }) {
  const { t } = useApp((state) => state.language);
  const details = useApp((state) => state.details[item.id]);
  const [arrived, setArrived] = useState<Submission | null>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    void submissionOf(item).then(setArrived);
  }, [item]);
  const wanted = new Set(details?.confirmation.studies.map(({ study_uid }) => study_uid));
  const here = (arrived?.examination?.studies ?? []).filter(({ study_uid }) => wanted.has(study_uid));
  const images = here.reduce((sum, { instances }) => sum + instances, 0);
  const pictures = arrived?.examination?.documents.length ?? 0;
  const count = images + Math.min(pictures, details?.confirmation.documents?.length ?? 0);
  if (arrived === null || count === 0) return null;
  return (
    <>
      <p className="basis-full font-medium">{t('problem.arrived', { count, confirmed: item.images })}</p>
      <Button
        look="primary"
        onClick={() => void confirmArrived(item, arrived).then((done) => setFailed(!done))}
      >
        {t('problem.sendArrived')}
      </Button>
      {failed && <p className="basis-full font-medium">{t('study.takeBackFailed')}</p>}
    </>
  );
}
