/** Keep the screen on while bytes go and somebody looks: a phone that sleeps sends nothing. */

let wanted = false;
let held: WakeLockSentinel | null = null;

async function take(): Promise<void> {
  if (!wanted || held !== null || document.visibilityState !== 'visible') return;
  try {
    held = (await navigator.wakeLock?.request('screen')) ?? null;
    held?.addEventListener('release', () => {
      held = null;
    });
  } catch {
    // A battery saver may refuse it. Uploads go on all the same while the screen is on.
  }
  if (!wanted) void held?.release();
}

/** Say whether the screen should stay on. The browser lets go of it by itself when the app is hidden. */
export function stayAwake(want: boolean): void {
  wanted = want;
  if (want) void take();
  else void held?.release();
}

if (typeof document !== 'undefined') document.addEventListener('visibilitychange', () => void take());
