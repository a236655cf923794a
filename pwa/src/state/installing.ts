/** Installing the app: the browser offers it where it can; on iPhones a person does it by hand. */

import { useApp } from './store';

interface InstallPrompt extends Event {
  prompt(): Promise<unknown>;
}

/** Keep the browser's offer for a button of ours. */
export function offerInstall(): void {
  window.addEventListener('beforeinstallprompt', (event) => {
    event.preventDefault();
    const offer = event as InstallPrompt;
    useApp.setState({
      install: () => {
        useApp.setState({ install: null });
        void offer.prompt();
      },
    });
  });
  window.addEventListener('appinstalled', () => useApp.setState({ install: null }));
}

export function isInstalled(): boolean {
  const apple = (navigator as { standalone?: boolean }).standalone === true;
  return apple || matchMedia('(display-mode: standalone)').matches;
}

/** An iPad says that it is a Mac, but no Mac has a screen to touch. */
export function isApple(): boolean {
  return (
    /iPhone|iPad|iPod/.test(navigator.userAgent) ||
    (navigator.userAgent.includes('Macintosh') && navigator.maxTouchPoints > 1)
  );
}
