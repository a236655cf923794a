/** Start the app. */

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { enrolCodeOf } from './domain/codes';
import { scriptUrl } from './engine/trusted';
import { startRunner } from './state/runner';
import { followAddress, open, useApp } from './state/store';
import './index.css';

// A code in the address leaves it at once: addresses are kept, shared and synchronised.
const scanned = enrolCodeOf(location.hash);
if (scanned !== null) history.replaceState(null, '', '#/enrol');

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
    if (had) location.reload();
    had = true;
  });
}

followAddress();
window.addEventListener('hashchange', followAddress);
// Closing while files are copied would lose the choice; nothing else here minds being closed.
window.addEventListener('beforeunload', (event) => {
  if (useApp.getState().saving !== null) event.preventDefault();
});
createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <App scanned={scanned} />
  </StrictMode>,
);
void registerServiceWorker().catch(() => {
  // Without it the app works, but only while the node is in reach.
});
void open().then(startRunner);
