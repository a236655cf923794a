/** Which PACS the mesh knew last, and which one was chosen: names of hospitals, nothing of a patient. */

import type { Destination } from '../domain/destinations';

const KNOWN = 'destinations';
const LAST = 'last-destination';

export const remembered = {
  known(): readonly Destination[] {
    try {
      return JSON.parse(localStorage.getItem(KNOWN) ?? '[]') as readonly Destination[];
    } catch {
      return [];
    }
  },
  setKnown(known: readonly Destination[]): void {
    const kept = known.map(({ name, modalities, origins }) => ({ name, modalities, origins }));
    localStorage.setItem(KNOWN, JSON.stringify(kept));
  },
  last: (): string | null => localStorage.getItem(LAST),
  setLast: (name: string): void => localStorage.setItem(LAST, name),
};
