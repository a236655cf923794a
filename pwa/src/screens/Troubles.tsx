/** For administrators: studies that wait for a decision, what each decision does, and who decides. */

import { useEffect, useState } from 'react';
import type { Decision, Troubled } from '../api/types';
import { decide, lookForDestinations, lookForTroubles } from '../state/acting';
import { useApp } from '../state/store';
import { Destinations } from '../ui/Destinations';
import { PersonField } from '../ui/PersonField';
import { Button, Card, FIELD, Note, Page, Title } from '../ui/parts';

/** A signed decision shows its effect soon; whoever signed it waits for that. */
const LOOK_MS = 4000;

export function Troubles() {
  const troubles = useApp((state) => state.troubles);
  const { t } = useApp((state) => state.language);
  useEffect(() => {
    const timer = setInterval(() => void lookForTroubles().catch(() => {}), LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <Page back="#/">
      <Title>{t('troubles.title')}</Title>
      <p className="text-muted">{t(troubles.length === 0 ? 'troubles.none' : 'troubles.lead')}</p>
      {troubles.map((troubled) => (
        <Case key={troubled.entry_id} troubled={troubled} />
      ))}
    </Page>
  );
}

type Kind = Decision['decision'];

/** Codes that have a sentence of their own (docs/journeys.md, "Delivery"). */
const EXPLAINED = new Set([
  'conflict',
  'rejected',
  'cannot-open',
  'bad-manifest',
  'author-revoked',
  'destination-open',
  'destination-unknown',
]);

/** What can be decided about a trouble; the first is what helps most often. */
const DECISIONS: Readonly<Record<string, readonly Kind[]>> = {
  conflict: ['retry', 'accept', 'leave-out', 'destination'],
  rejected: ['retry', 'leave-out', 'destination'],
  'author-revoked': ['retry'],
  'destination-open': ['destination', 'retry'],
  'destination-unknown': ['destination', 'retry'],
};
const USUAL: readonly Kind[] = ['retry', 'destination'];

function Case({ troubled }: { readonly troubled: Troubled }) {
  const { t, moment } = useApp((state) => state.language);
  const first = troubled.troubles[0];
  const offered = DECISIONS[first?.code ?? ''] ?? USUAL;
  const [kind, setKind] = useState<Kind | null>(null);
  const [person, setPerson] = useState('');
  const [destination, setDestination] = useState('');
  const known = useApp((state) => state.destinations);
  useEffect(() => void lookForDestinations(), []);
  const [folder, setFolder] = useState('');
  const [said, setSaid] = useState<string | null>(null);
  const [signed, setSigned] = useState(false);
  const ready =
    kind !== null &&
    person.trim() !== '' &&
    (kind !== 'destination' || destination !== '') &&
    (kind !== 'leave-out' || folder.trim() !== '');

  async function submit(): Promise<void> {
    if (kind === null) return;
    const { entry_id } = troubled;
    const more = kind === 'leave-out' ? { folder: folder.trim() } : {};
    const refused = await decide({ entry_id, decision: kind, person: person.trim(), destination, ...more });
    setSaid(refused);
    setSigned(refused === null);
  }

  if (signed) {
    return (
      <Note tone="quiet" icon="check" title={troubled.code}>
        <p>{t('troubles.signed')}</p>
      </Note>
    );
  }
  return (
    <Card className="space-y-4 p-5">
      <div>
        <h2 className="font-mono font-semibold text-lg tracking-wide">{troubled.code}</h2>
        {troubled.troubles.map(({ code, instances, since }) => (
          <div key={code} className="space-y-1">
            <p>{EXPLAINED.has(code) ? t(`trouble.${code}`) : t('trouble.other', { code })}</p>
            <p className="text-muted text-sm">
              {[
                instances > 0 ? t('confirm.images', { count: instances }) : '',
                since > 0 ? t('troubles.since', { when: moment(since) }) : '',
              ]
                .filter(Boolean)
                .join(' · ')}
            </p>
          </div>
        ))}
        <Reasons troubled={troubled} />
        <p className="pt-2">{t('troubles.safe')}</p>
      </div>
      <fieldset className="space-y-2">
        <legend className="pb-2 font-semibold">{t('troubles.what')}</legend>
        {offered.map((one) => (
          <label
            key={one}
            className="flex min-h-12 cursor-pointer items-start gap-3 rounded-xl border border-edge px-4 py-3 has-checked:border-brand has-checked:bg-brand-soft"
          >
            <input
              type="radio"
              name={`decision-${troubled.entry_id}`}
              checked={kind === one}
              onChange={() => setKind(one)}
              className="mt-0.5 size-5 shrink-0 accent-brand"
            />
            <span>
              <span className="block font-semibold">{t(`decision.${one}`)}</span>
              <span className="block text-muted text-sm">{t(`decides.${one}`)}</span>
            </span>
          </label>
        ))}
      </fieldset>
      {kind === 'leave-out' && (
        <div className="space-y-1">
          <label htmlFor={`folder-${troubled.entry_id}`} className="font-medium">
            {t('troubles.folder')}
          </label>
          <input
            id={`folder-${troubled.entry_id}`}
            className={FIELD}
            value={folder}
            autoComplete="off"
            spellCheck={false}
            onChange={(event) => setFolder(event.target.value)}
          />
          <p className="text-muted text-sm">{t('troubles.folderHint')}</p>
        </div>
      )}
      {kind === 'destination' && (
        <Destinations
          id="destination"
          label={t('troubles.destination')}
          names={known.map(({ name }) => name)}
          chosen={destination || null}
          choose={(name) => setDestination(name ?? '')}
        />
      )}
      <PersonField id={`person-${troubled.entry_id}`} person={person} change={setPerson} />
      {said !== null && (
        <Note tone="act" icon="alert">
          <p>
            {said === 'unreachable'
              ? t('enrol.unreachable')
              : said === 'may-not-decide'
                ? t('troubles.mayNot')
                : t('troubles.refused', { code: said })}
          </p>
        </Note>
      )}
      <Button look="primary" wide disabled={!ready} onClick={() => void submit()}>
        {t('troubles.go')}
      </Button>
    </Card>
  );
}

/** What the hospital's archive said, in the node's words. */
function Reasons({ troubled }: { readonly troubled: Troubled }) {
  const { t } = useApp((state) => state.language);
  const reasons = troubled.reasons ?? [];
  if (reasons.length === 0) return null;
  return (
    <ul className="space-y-1 pt-2 text-muted text-sm">
      {reasons.map(({ code, detail, instances }) => (
        <li key={code}>
          <bdi>{detail || code}</bdi> ({t('confirm.images', { count: instances.length })})
        </li>
      ))}
    </ul>
  );
}
