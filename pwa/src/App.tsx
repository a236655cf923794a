/** Which screen is shown. What is seldom needed is loaded when it is; the service worker has it offline. */

import { lazy, Suspense, useEffect } from 'react';
import { Confirm } from './screens/Confirm';
import { History } from './screens/History';
import { Home } from './screens/Home';
import { Study } from './screens/Progress';
import { Select } from './screens/Select';
import { readShared } from './state/choosing';
import { useApp } from './state/store';
import { Frame } from './ui/Frame';

const Enrol = lazy(async () => ({ default: (await import('./screens/Enrol')).Enrol }));
const Settings = lazy(async () => ({ default: (await import('./screens/Settings')).Settings }));
const Help = lazy(async () => ({ default: (await import('./screens/Help')).Help }));
const Troubles = lazy(async () => ({ default: (await import('./screens/Troubles')).Troubles }));

/** `scanned`: an enrolment code that came with the address. */
export function App({ scanned }: { readonly scanned: string | null }) {
  const { locale, direction } = useApp((state) => state.language);
  useEffect(() => {
    document.documentElement.lang = locale;
    document.documentElement.dir = direction;
  }, [locale, direction]);
  return (
    <Frame>
      <Suspense fallback={<Loading />}>
        <Screen scanned={scanned} />
      </Suspense>
    </Frame>
  );
}

function Loading() {
  const { t } = useApp((state) => state.language);
  return <p className="text-muted">{t('app.loading')}</p>;
}

function Screen({ scanned }: { readonly scanned: string | null }) {
  const ready = useApp((state) => state.ready);
  const device = useApp((state) => state.device);
  const route = useApp((state) => state.route);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new screen begins at its top
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [route]);
  if (!ready) return <Loading />;
  if (device === null && route.screen !== 'help') return <Enrol scanned={scanned} />;
  switch (route.screen) {
    case 'home':
      return <Home />;
    case 'select':
      return <Select />;
    case 'confirm':
      return <Confirm />;
    case 'study':
      return <Study key={route.id} id={route.id} />;
    case 'history':
      return <History />;
    case 'enrol':
      return <Enrol scanned={scanned} />;
    case 'settings':
      return <Settings />;
    case 'help':
      return <Help />;
    case 'troubles':
      return <Troubles />;
    case 'shared':
      return <Shared />;
  }
}

function Shared() {
  useEffect(() => {
    void readShared();
  }, []);
  return <Loading />;
}
