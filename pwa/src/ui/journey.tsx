/** Where a study is: as a short line of steps on a card, and as a whole story. */

import { type ChainStep, chain, copies, type SentenceKey, sentence, type Tone } from '../domain/journey';
import type { OutboxItem } from '../domain/outbox';
import { useApp } from '../state/store';
import { Icon, type IconName } from './icons';

export const TONES: Readonly<Record<Tone, string>> = {
  quiet: 'text-muted',
  moving: 'text-moving',
  done: 'text-done',
  act: 'text-act',
};

const ICONS: Readonly<Record<SentenceKey, IconName>> = {
  'journey.problem': 'alert',
  'journey.trouble': 'alert',
  'journey.withdrawn': 'back',
  'journey.recalled': 'cloud',
  'journey.erased': 'check',
  'journey.confirmed': 'check',
  'journey.cloud': 'cloud',
  'journey.carried': 'carried',
  'journey.carriedBy': 'carried',
  'journey.clinic': 'clinic',
  'journey.clinicCopies': 'clinic',
  'journey.checking': 'clinic',
  'journey.sending': 'upload',
  'journey.saved': 'phone',
};

interface Said {
  readonly text: string;
  readonly tone: Tone;
  readonly icon: IconName;
}

/** The sentence of an item in its tone. */
export function useSentence(item: OutboxItem): Said {
  const sending = useApp((state) => state.activity[item.id] !== undefined);
  const { t } = useApp((state) => state.language);
  const { key, tone, values } = sentence(item, sending);
  return { text: t(key, values), tone, icon: ICONS[key] };
}

const SEGMENTS: Readonly<Record<ChainStep['state'], string>> = {
  done: 'bg-done',
  now: 'bg-brand/40',
  ahead: 'bg-sunken',
  'passed-by': 'bg-done/35',
};

export function ShortChain({ item }: { readonly item: OutboxItem }) {
  return (
    <div className="flex gap-1" aria-hidden="true">
      {chain(item).map(({ step, state }) => (
        <span key={step} className={`h-1.5 flex-1 rounded-full ${SEGMENTS[state]}`} />
      ))}
    </div>
  );
}

const MARKS: Readonly<Record<ChainStep['state'], string>> = {
  done: 'bg-done text-surface',
  now: 'bg-surface text-brand ring-2 ring-brand',
  ahead: 'bg-sunken text-muted',
  'passed-by': 'bg-sunken text-muted',
};

export function Chain({ item }: { readonly item: OutboxItem }) {
  const { t, moment } = useApp((state) => state.language);
  const steps = chain(item);
  return (
    <ol className="relative">
      {steps.map(({ step, state, at, by }, index) => (
        <li
          key={step}
          className="relative flex gap-4 pb-5 last:pb-0"
          aria-current={state === 'now' ? 'step' : undefined}
        >
          {index < steps.length - 1 && (
            <span
              className={`absolute start-[1.1875rem] top-10 bottom-0 w-0.5 ${state === 'done' || state === 'passed-by' ? 'bg-done' : 'bg-line'}`}
              aria-hidden="true"
            />
          )}
          <span className={`z-[1] grid size-10 shrink-0 place-items-center rounded-full ${MARKS[state]}`}>
            <Icon name={state === 'done' ? 'check' : step} className="size-5" />
          </span>
          <div className="min-w-0 flex-1 pt-1.5">
            <p
              className={
                state === 'done'
                  ? 'font-semibold'
                  : state === 'now'
                    ? 'font-semibold text-brand'
                    : 'text-muted'
              }
            >
              {t(`step.${step}`)}
              <span className="sr-only">: {t(`step.${state}`)}</span>
            </p>
            <p className="text-muted text-sm">
              {state === 'passed-by' && <span aria-hidden="true">{t('step.passed')}</span>}
              {state === 'done' && at !== null && <span>{moment(at)}</span>}
              {state === 'done' && by !== null && step === 'carried' && <bdi> {t('step.with', { by })}</bdi>}
              {state === 'done' && step === 'clinic' && copies(item) > 0 && (
                <span>
                  {at !== null && ' · '}
                  {t('step.copies', { count: copies(item) })}
                </span>
              )}
            </p>
          </div>
        </li>
      ))}
    </ol>
  );
}
