/** Put the app on the home screen: by the browser's offer, or in words where there is none. */

import { useState } from 'react';
import { isApple, isInstalled } from '../state/installing';
import { useApp } from '../state/store';
import { Button, Note } from './parts';

const LATER_KEY = 'install-later';

/** `always`: also when it was put off before. `apple`: only in words, where nothing else keeps what is saved. */
export function InstallNote(props: { readonly always?: boolean; readonly apple?: boolean }) {
  const { always = false, apple = false } = props;
  const install = useApp((state) => state.install);
  const { t } = useApp((state) => state.language);
  const [later, setLater] = useState(localStorage.getItem(LATER_KEY) !== null);
  if (isInstalled() || (later && !always)) return null;
  function putOff(): void {
    localStorage.setItem(LATER_KEY, 'yes');
    setLater(true);
  }
  const notNow = always ? null : (
    <Button look="plain" onClick={putOff}>
      {t('install.later')}
    </Button>
  );
  if (install !== null && !apple) {
    const action = (
      <>
        <Button onClick={install}>{t('install.go')}</Button>
        {notNow}
      </>
    );
    return (
      <Note tone="quiet" icon="install" title={t('install.title')} action={action}>
        <p>{t('install.text')}</p>
      </Note>
    );
  }
  if (!isApple()) return null;
  return (
    <Note tone="quiet" icon="install" title={t('install.title')} action={notNow}>
      <p>{t('install.appleWhy')}</p>
      <ol className="list-decimal space-y-1 ps-5">
        <li>{t('install.apple1')}</li>
        <li>{t('install.apple2')}</li>
        <li>{t('install.apple3')}</li>
      </ol>
    </Note>
  );
}
