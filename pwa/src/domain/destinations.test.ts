import { expect, test } from 'vitest';
import { BY_RULES, type Destination, offered } from './destinations';

const pacs = (name: string, modalities: readonly string[] = []): Destination => ({
  name,
  modalities,
  origins: [],
});

test('nothing is asked where there is nothing to choose', () => {
  expect(offered([], null)).toBeNull();
  expect(offered([pacs('main')], 'other')).toBeNull();
});

/** A guess may send a patient's images to the wrong hospital. */
test('without rules a person says it the first time, and what was said stands there the next time', () => {
  const two = [pacs('north'), pacs('east')];

  expect(offered(two, null)).toEqual({ names: ['east', 'north'], byRules: false, first: null });
  expect(offered(two, 'north')?.first).toBe('north');
  expect(offered(two, 'gone')?.first).toBeNull();
});

test('rules of the mesh come before what was chosen last', () => {
  const choice = offered([pacs('north'), pacs('heart', ['US'])], 'north');

  expect(choice).toEqual({ names: ['heart', 'north'], byRules: true, first: BY_RULES });
});
