/** What is around every screen: the name, whether the node is there, the language, files dropped anywhere. */

import { type DragEvent, type ReactNode, useState } from 'react';
import { fromDrop } from '../engine/picking';
import { LOCALES, type Locale, PSEUDO } from '../i18n';
import { read } from '../state/choosing';
import { isBusy, type Link, speak, useApp } from '../state/store';
import { Icon, type IconName, Mark } from './icons';
import { Button } from './parts';

/** Set by whoever tests the app: the pseudo-locale is in the list then. */
const TESTERS_KEY = 'testers';

const DOTS: Readonly<Record<Link, string>> = {
  unknown: 'bg-line',
  reached: 'bg-done',
  unreachable: 'bg-muted',
  refused: 'bg-act',
  elsewhere: 'bg-muted',
};

function LinkState() {
  const link = useApp((state) => state.link);
  const { t } = useApp((state) => state.language);
  return (
    <p
      className="flex items-center gap-2 rounded-full bg-sunken px-3 py-1.5 font-medium text-muted text-sm"
      role="status"
    >
      <span className={`size-2 rounded-full ${DOTS[link]}`} />
      {link === 'unknown' ? <span className="sr-only">{t('link.unknown')}</span> : t(`link.${link}`)}
      {link === 'unknown' && <span aria-hidden="true">…</span>}
    </p>
  );
}

function NewVersion() {
  const use = useApp((state) => state.newVersion);
  const busy = useApp(isBusy);
  const { t } = useApp((state) => state.language);
  // Never in the middle of a choice or an upload; it keeps.
  if (use === null || busy) return null;
  return (
    <div className="flex flex-wrap items-center justify-between gap-2 bg-brand-soft px-4 py-1" role="status">
      <span>{t('app.newVersion')}</span>
      <Button look="plain" onClick={use}>
        {t('app.useNewVersion')}
      </Button>
    </div>
  );
}

function LanguageChoice() {
  const { t, locale } = useApp((state) => state.language);
  return (
    <label className="flex items-center gap-2 text-muted text-sm">
      {t('app.language')}
      <select
        className="min-h-12 rounded-xl border border-line bg-surface px-3 text-base text-ink"
        value={locale}
        onChange={(event) => void speak(event.target.value as Locale)}
      >
        {Object.entries(LOCALES).map(([tag, name]) => (
          <option key={tag} value={tag}>
            {name}
          </option>
        ))}
        {(locale === PSEUDO || localStorage.getItem(TESTERS_KEY) !== null) && (
          <option value={PSEUDO}>{PSEUDO}</option>
        )}
      </select>
    </label>
  );
}

function FooterLink(props: { readonly href: string; readonly icon: IconName; readonly text: string }) {
  return (
    <a
      href={props.href}
      className="inline-flex min-h-12 items-center gap-2 rounded-xl px-2 font-medium text-muted hover:text-ink"
    >
      <Icon name={props.icon} className="size-5" />
      {props.text}
    </a>
  );
}

export function Frame({ children }: { readonly children: ReactNode }) {
  const device = useApp((state) => state.device);
  const saving = useApp((state) => state.saving);
  const { t } = useApp((state) => state.language);
  const [over, setOver] = useState(false);
  const mayDrop = device !== null && saving === null;

  function drag(event: DragEvent, isOver: boolean): void {
    if (!event.dataTransfer.types.includes('Files')) return;
    event.preventDefault();
    setOver(isOver && mayDrop);
  }

  function drop(event: DragEvent): void {
    event.preventDefault();
    setOver(false);
    if (mayDrop && event.dataTransfer.items.length > 0) void read(fromDrop(event.dataTransfer));
  }

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is beside the buttons of the Select screen
    <div
      className={`flex min-h-dvh flex-col ${over ? 'outline-4 outline-brand -outline-offset-8 outline-dashed' : ''}`}
      onDragOver={(event) => drag(event, true)}
      onDragLeave={(event) => drag(event, false)}
      onDrop={drop}
    >
      <button
        type="button"
        className="sr-only focus:not-sr-only focus:absolute focus:z-10 focus:m-2 focus:rounded-xl focus:bg-surface focus:p-3"
        onClick={() => document.querySelector<HTMLElement>('h1')?.focus()}
      >
        {t('app.skip')}
      </button>
      <NewVersion />
      <header className="border-line border-b bg-surface">
        <div className="mx-auto flex min-h-16 w-full max-w-5xl items-center justify-between gap-3 px-4 sm:px-6">
          <a
            href="#/"
            className="flex min-h-12 items-center gap-2.5 rounded-xl pe-2 font-bold tracking-tight"
          >
            <Mark />
            {t('app.name')}
            <span className="sr-only">, {t('app.home')}</span>
          </a>
          {device !== null && <LinkState />}
        </div>
      </header>
      <main className="mx-auto w-full max-w-5xl flex-1 px-4 py-5 sm:px-6 sm:py-10">{children}</main>
      <footer className="mx-auto flex w-full max-w-5xl flex-wrap items-center justify-between gap-3 px-4 pt-2 pb-6 sm:px-6">
        <nav className="-ms-2 flex flex-wrap gap-x-2" aria-label={t('app.more')}>
          <FooterLink href="#/help" icon="help" text={t('help.link')} />
          {device !== null && <FooterLink href="#/settings" icon="settings" text={t('settings.title')} />}
        </nav>
        <LanguageChoice />
      </footer>
    </div>
  );
}
