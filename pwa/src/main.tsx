/** Start the app. */

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { scriptUrl } from './engine/trusted';
import { bestLocale, languageOf } from './i18n';
import { offerInstall } from './state/installing';
import { startRunner } from './state/runner';
import { followAddress, isBusy, LOCALE_KEY, open, useApp } from './state/store';
import './index.css';

async function registerServiceWorker(): Promise<void> {
  if (!('serviceWorker' in navigator) || !import.meta.env.PROD) return;
  const registration = await navigator.serviceWorker.register(scriptUrl('/sw.js'), { scope: '/' });
  const offer = (): void => {
    const { waiting } = registration;
    if (waiting === null || navigator.serviceWorker.controller === null) return;
    useApp.setState({ newVersion: () => waiting.postMessage('use-new-version') });
  };
  offer();
  registration.addEventListener('updatefound', () => {
    registration.installing?.addEventListener('statechange', offer);
  });
  let had = navigator.serviceWorker.controller !== null;
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (had) whenIdle(() => location.reload());
    had = true;
  });
}

/** Never in the middle of a choice or an upload, also when it was another page that asked for it. */
function whenIdle(action: () => void): void {
  if (!isBusy(useApp.getState())) {
    action();
    return;
  }
  const end = useApp.subscribe((state) => {
    if (isBusy(state)) return;
    end();
    action();
  });
}

// A part of the app that is loaded later may be gone when a new version has come.
window.addEventListener('vite:preloadError', (event) => {
  if (isBusy(useApp.getState()) || !navigator.onLine) return;
  event.preventDefault();
  location.reload();
});
followAddress();
window.addEventListener('hashchange', followAddress);
// Closing while files are copied would lose the choice; nothing else here minds being closed.
window.addEventListener('beforeunload', (event) => {
  if (useApp.getState().saving !== null) event.preventDefault();
});
offerInstall();

async function show(): Promise<void> {
  const locale = bestLocale([localStorage.getItem(LOCALE_KEY) ?? '', ...navigator.languages]);
  if (locale !== 'en') {
    const language = await languageOf(locale, navigator.languages).catch(() => null);
    if (language !== null) useApp.setState({ language });
  }
  createRoot(document.getElementById('root') as HTMLElement).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}

void show();
void registerServiceWorker().catch(() => {
  // Without it the app works, but only while the node is in reach.
});
void open().then(startRunner);
