/** Which screen is shown. */

import { useEffect } from 'react';
import { Confirm } from './screens/Confirm';
import { Enrol } from './screens/Enrol';
import { History } from './screens/History';
import { Home } from './screens/Home';
import { Study } from './screens/Progress';
import { Select } from './screens/Select';
import { useApp } from './state/store';
import { Frame } from './ui/Frame';

/** `scanned`: an enrolment code that came with the address. */
export function App({ scanned }: { readonly scanned: string | null }) {
  const { locale, direction } = useApp((state) => state.language);
  useEffect(() => {
    document.documentElement.lang = locale;
    document.documentElement.dir = direction;
  }, [locale, direction]);
  return (
    <Frame>
      <Screen scanned={scanned} />
    </Frame>
  );
}

function Screen({ scanned }: { readonly scanned: string | null }) {
  const ready = useApp((state) => state.ready);
  const device = useApp((state) => state.device);
  const route = useApp((state) => state.route);
  const { t } = useApp((state) => state.language);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new screen begins at its top
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [route]);
  if (!ready) return <p className="text-muted">{t('app.loading')}</p>;
  if (device === null) return <Enrol scanned={scanned} />;
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
  }
}
