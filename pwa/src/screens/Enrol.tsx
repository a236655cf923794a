/** Connect this device to the clinic, once: a code, typed or scanned. */

import { type FormEvent, useEffect, useState } from 'react';
import { enrolCode } from '../domain/codes';
import { type EnrolResult, enrol } from '../state/acting';
import { go, useApp } from '../state/store';
import { InstallNote } from '../ui/InstallNote';
import { Button, Card, FIELD, Note, Page, Title } from '../ui/parts';
import { Scanner } from '../ui/Scanner';

const FAILURES: Readonly<Record<Exclude<EnrolResult, 'enrolled'>, string>> = {
  'wrong-code': 'enrol.wrongCode',
  'too-many': 'enrol.tooMany',
  unreachable: 'enrol.unreachable',
  failed: 'enrol.failed',
};

export function Enrol() {
  const { t } = useApp((state) => state.language);
  const scanned = useApp((state) => state.scanned);
  const [code, setCode] = useState(scanned ?? '');
  const [label, setLabel] = useState(
    t(matchMedia('(pointer: coarse)').matches ? 'enrol.phone' : 'enrol.computer'),
  );
  const [scanning, setScanning] = useState(false);
  useEffect(() => {
    if (scanned !== null) setCode(scanned);
  }, [scanned]);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<Exclude<EnrolResult, 'enrolled'> | null>(null);

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setFailed(null);
    const result = await enrol(enrolCode(code), label.trim());
    setBusy(false);
    if (result === 'enrolled') go({ screen: 'home' });
    else setFailed(result);
  }

  return (
    <Page>
      <Title>{t('enrol.title')}</Title>
      <p className="text-muted">{t('enrol.lead')}</p>
      <Card className="p-5 sm:p-6">
        <form className="space-y-5" autoComplete="off" onSubmit={(event) => void submit(event)}>
          <div className="space-y-2">
            <label htmlFor="code" className="font-semibold">
              {t('enrol.code')}
            </label>
            <input
              id="code"
              className={`${FIELD} font-mono uppercase tracking-widest`}
              value={code}
              onChange={(event) => setCode(event.target.value)}
              autoCapitalize="characters"
              autoComplete="off"
              spellCheck={false}
              aria-describedby="code-hint"
              required
            />
            <p id="code-hint" className="text-muted text-sm">
              {t('enrol.codeHint')}
            </p>
          </div>
          {scanning ? (
            <Scanner
              found={(seen) => {
                setCode(seen);
                setScanning(false);
              }}
              cancel={() => setScanning(false)}
            />
          ) : (
            <Button icon="scan" wide onClick={() => setScanning(true)}>
              {t('scan.go')}
            </Button>
          )}
          <div className="space-y-2">
            <label htmlFor="label" className="font-semibold">
              {t('enrol.label')}
            </label>
            <input
              id="label"
              className={FIELD}
              value={label}
              onChange={(event) => setLabel(event.target.value)}
              autoComplete="off"
              maxLength={60}
              aria-describedby="label-hint"
              required
            />
            <p id="label-hint" className="text-muted text-sm">
              {t('enrol.labelHint')}
            </p>
          </div>
          {failed && (
            <Note
              tone={failed === 'unreachable' ? 'quiet' : 'act'}
              icon={failed === 'unreachable' ? 'away' : 'alert'}
            >
              <p>{t(FAILURES[failed])}</p>
            </Note>
          )}
          <Button type="submit" look="primary" wide disabled={busy}>
            {t(busy ? 'enrol.busy' : 'enrol.go')}
          </Button>
        </form>
      </Card>
      <InstallNote apple />
    </Page>
  );
}
