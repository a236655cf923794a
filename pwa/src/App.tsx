/** Which screen is shown. What is seldom needed is loaded when it is; the service worker has it offline. */

import { Component, lazy, type ReactNode, Suspense, useEffect } from 'react';
import { Confirm } from './screens/Confirm';
import { History } from './screens/History';
import { Home } from './screens/Home';
import { Study } from './screens/Progress';
import { Select } from './screens/Select';
import { readShared } from './state/choosing';
import { useApp } from './state/store';
import { Frame } from './ui/Frame';
import { Button, Note } from './ui/parts';

const Enrol = lazy(async () => ({ default: (await import('./screens/Enrol')).Enrol }));
const Settings = lazy(async () => ({ default: (await import('./screens/Settings')).Settings }));
const Help = lazy(async () => ({ default: (await import('./screens/Help')).Help }));
const Troubles = lazy(async () => ({ default: (await import('./screens/Troubles')).Troubles }));

export function App() {
  const { locale, direction } = useApp((state) => state.language);
  useEffect(() => {
    document.documentElement.lang = locale;
    document.documentElement.dir = direction;
  }, [locale, direction]);
  return (
    <Frame>
      <Falls>
        <Suspense fallback={<Loading />}>
          <Screen />
        </Suspense>
      </Falls>
    </Frame>
  );
}

/** What cannot be shown must not take the whole app away. */
class Falls extends Component<{ readonly children: ReactNode }, { readonly fallen: boolean }> {
  override readonly state = { fallen: false };

  static getDerivedStateFromError(): { fallen: boolean } {
    return { fallen: true };
  }

  override render(): ReactNode {
    return this.state.fallen ? <Fallen /> : this.props.children;
  }
}

function Fallen() {
  const { t } = useApp((state) => state.language);
  const again = <Button onClick={() => location.reload()}>{t('app.reload')}</Button>;
  return (
    <Note tone="act" icon="alert" title={t('app.fallen')} action={again}>
      <p>{t('app.fallenText')}</p>
    </Note>
  );
}

function Loading() {
  const { t } = useApp((state) => state.language);
  return <p className="text-muted">{t('app.loading')}</p>;
}

function Screen() {
  const ready = useApp((state) => state.ready);
  const device = useApp((state) => state.device);
  const route = useApp((state) => state.route);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new screen begins at its top
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [route]);
  if (!ready) return <Loading />;
  if (device === null && route.screen !== 'help') return <Enrol />;
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
      return <Enrol />;
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
