/** How fast bytes go, and what can honestly be said about how long the rest takes. */

/** Rates are bytes per second: one that forgets quickly, one that forgets slowly. */
export interface Pace {
  readonly sent: number;
  readonly total: number;
  /** Milliseconds on any clock that only goes on. */
  readonly at: number;
  readonly begun: number;
  readonly quick: number | null;
  readonly steady: number | null;
}

const QUICK = 0.4;
const STEADY = 0.1;
/** Before so long nothing is said: the first pieces are no promise. */
const SPEAK_MS = 4000;

/** Return the pace after `sent` of `total` bytes had arrived at the time `at`. */
export function paced(before: Pace | undefined, sent: number, total: number, at: number): Pace {
  if (before === undefined || sent < before.sent || total !== before.total)
    return { sent, total, at, begun: at, quick: null, steady: null };
  const seconds = (at - before.at) / 1000;
  if (sent === before.sent || seconds <= 0) return before;
  const rate = (sent - before.sent) / seconds;
  const mix = (old: number | null, share: number): number =>
    old === null ? rate : share * rate + (1 - share) * old;
  return { ...before, sent, at, quick: mix(before.quick, QUICK), steady: mix(before.steady, STEADY) };
}

/** Return between how many seconds the rest may take, or null when nothing can be said yet. */
export function remaining(pace: Pace, now: number): { readonly from: number; readonly to: number } | null {
  const { quick, steady, sent, total, at, begun } = pace;
  if (quick === null || steady === null || now - begun < SPEAK_MS) return null;
  // While nothing arrives, the last rate becomes less true with every second.
  const stalled = Math.max(0, (now - at) / 1000);
  const rest = total - sent;
  return { from: rest / Math.max(quick, steady), to: rest / Math.min(quick, steady) + stalled };
}
