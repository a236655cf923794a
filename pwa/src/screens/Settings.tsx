/** This device, what it can do, and what to read out to whoever helps. Nothing of any patient is here. */

import { type ReactNode, useEffect, useState } from 'react';
import type { DeviceCode } from '../api/types';
import { hasBackgroundSync } from '../engine/background';
import { deviceCode } from '../state/acting';
import { isInstalled } from '../state/installing';
import { go, tryNow, useApp } from '../state/store';
import { InstallNote } from '../ui/InstallNote';
import { Button, Card, Note, Page, Title } from '../ui/parts';
import { QrCode } from '../ui/QrCode';

interface Room {
  readonly used: number;
  readonly kept: boolean;
}

function useRoom(): Room | null {
  const [room, setRoom] = useState<Room | null>(null);
  useEffect(() => {
    void Promise.all([navigator.storage.estimate(), navigator.storage.persisted()]).then(
      ([{ usage = 0 }, kept]) => setRoom({ used: usage, kept }),
    );
  }, []);
  return room;
}

type Row = readonly [string, string];

function useRows(): readonly Row[] {
  const device = useApp((state) => state.device);
  const link = useApp((state) => state.link);
  const health = useApp((state) => state.health);
  const items = useApp((state) => state.items);
  const room = useRoom();
  const { t, size } = useApp((state) => state.language);
  const yes = (it: boolean): string => t(it ? 'settings.yes' : 'settings.no');
  return [
    [t('settings.device'), device?.label ?? ''],
    [t('settings.role'), t(`role.${device?.role ?? 'clinician'}`)],
    [t('settings.link'), t(`link.${link}`)],
    [t('settings.node'), health === null ? t('settings.never') : `${health.node} · ${health.version}`],
    [t('settings.mesh'), device?.mesh ?? health?.mesh ?? t('settings.never')],
    [t('settings.waiting'), String(items.filter((item) => !item.kept).length)],
    [t('settings.used'), room === null ? '…' : size(room.used)],
    [t('settings.kept'), room === null ? '…' : yes(room.kept)],
    [t('settings.installed'), yes(isInstalled())],
    [t('settings.background'), yes(hasBackgroundSync())],
    [t('settings.offline'), yes(navigator.serviceWorker?.controller != null)],
    [t('settings.version'), __APP_VERSION__],
  ];
}

export function Settings() {
  const role = useApp((state) => state.device?.role);
  const { t } = useApp((state) => state.language);
  return (
    <Page back="#/">
      <Title>{t('settings.title')}</Title>
      <Diagnostics />
      {role !== 'clinician' && <LetIn />}
      <InstallNote always />
      <Card className="space-y-3 p-5">
        <h2 className="font-semibold">{t('settings.again')}</h2>
        <p className="text-muted">{t('settings.againText')}</p>
        <Button wide onClick={() => go({ screen: 'enrol' })}>
          {t('refused.go')}
        </Button>
      </Card>
    </Page>
  );
}

function Diagnostics() {
  const rows = useRows();
  const { t } = useApp((state) => state.language);
  const [copied, setCopied] = useState(false);
  async function copy(): Promise<void> {
    await navigator.clipboard.writeText(rows.map(([name, value]) => `${name}: ${value}`).join('\n'));
    setCopied(true);
  }
  return (
    <Card className="space-y-3 p-5">
      <h2 className="font-semibold">{t('settings.diagnostics')}</h2>
      <dl className="divide-y divide-line">
        {rows.map(([name, value]) => (
          <div key={name} className="flex flex-wrap justify-between gap-x-4 py-2">
            <dt className="text-muted">{name}</dt>
            <dd className="min-w-0 break-words font-medium">
              <bdi>{value}</bdi>
            </dd>
          </div>
        ))}
      </dl>
      <div className="grid gap-2 sm:grid-cols-2">
        <Button onClick={tryNow}>{t('link.tryNow')}</Button>
        <Button onClick={() => void copy()}>{t(copied ? 'settings.copied' : 'settings.copy')}</Button>
      </div>
    </Card>
  );
}

/** For who looks after a clinic: a code for a colleague's phone. */
function LetIn() {
  const { t } = useApp((state) => state.language);
  const [code, setCode] = useState<DeviceCode | 'failed' | null>(null);
  let shown: ReactNode = null;
  if (code === 'failed') {
    shown = (
      <Note tone="quiet" icon="away">
        <p>{t('admit.failed')}</p>
      </Note>
    );
  } else if (code !== null) {
    shown = (
      <div className="space-y-3 text-center">
        <QrCode text={`${location.origin}/#enrol=${code.code}`} label={t('admit.label')} />
        <p className="break-words font-mono font-semibold text-lg tracking-wide">{code.code}</p>
        <p className="text-muted text-sm">{t('admit.once')}</p>
      </div>
    );
  }
  return (
    <Card className="space-y-3 p-5">
      <h2 className="font-semibold">{t('admit.title')}</h2>
      <p className="text-muted">{t('admit.text')}</p>
      {shown}
      <Button icon="scan" wide onClick={() => void deviceCode().then((made) => setCode(made ?? 'failed'))}>
        {t('admit.go')}
      </Button>
    </Card>
  );
}
