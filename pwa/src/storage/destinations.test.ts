import { afterEach, expect, test, vi } from 'vitest';
import { remembered } from './destinations';

const NORTH = { name: 'north', modalities: [], origins: [] };

afterEach(() => void vi.unstubAllGlobals());

/** Else nothing would be asked, and the study would go out for no archive. */
test('a node that knows no archive makes nothing forgotten', () => {
  const kept = new Map<string, string>();
  vi.stubGlobal('localStorage', {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  });

  remembered.setKnown([NORTH]);
  remembered.setKnown([]);

  expect(remembered.known()).toEqual([NORTH]);
});

test('a browser that remembers nothing stops no study', () => {
  const refuse = (): never => {
    throw new DOMException('', 'QuotaExceededError');
  };
  vi.stubGlobal('localStorage', { getItem: refuse, setItem: refuse });

  remembered.setKnown([NORTH]);
  remembered.setLast('north');

  expect([remembered.known(), remembered.last()]).toEqual([[], null]);
});
