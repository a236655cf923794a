import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import en from './en.json';
import fr from './fr.json';
import { pseudo } from './pseudo';
import { flatten, translator } from './translate';

const TEXTS = { en: flatten(en), fr: flatten(fr) };

function sources(): readonly string[] {
  const root = new URL('..', import.meta.url).pathname;
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.tsx?$/.test(name) && !name.includes('.test.'))
    .map((name) => readFileSync(join(root, name), 'utf8'));
}

const stem = (key: string): string => key.replace(/_(zero|one|two|few|many|other)$/, '');

/** A person who reads French must never meet an English sentence in the middle. */
test('every language says everything, with the same names to fill in', () => {
  const filled = (text: string): readonly string[] => [...text.matchAll(/\{\{\w+\}\}/g)].map(String).sort();

  expect([...TEXTS.fr.keys()].sort()).toEqual([...TEXTS.en.keys()].sort());
  for (const [key, text] of TEXTS.en)
    expect([key, filled(TEXTS.fr.get(key) ?? '')]).toEqual([key, filled(text)]);
});

/** A missing text shows its key to a clinician; an unused one is work for translators. */
test('the code asks for the texts that exist, and for all of them', () => {
  const known = new Set([...TEXTS.en.keys()].map(stem));
  const code = sources().join('\n');
  const asked = [...code.matchAll(/\bt\(\s*'([\w.-]+)'/g)].map((match) => match[1] as string);
  // Keys that are put together, such as t(`step.${name}`): the whole group counts as asked for.
  const groups = [...code.matchAll(/\bt\(\s*`([\w.]+\.)\$\{/g)].map((match) => match[1] as string);
  const literals = new Set([...code.matchAll(/'([a-z]+\.[\w.-]+)'/g)].map((match) => match[1] as string));

  expect(asked.filter((key) => !known.has(key))).toEqual([]);
  expect(
    [...known].filter((key) => !literals.has(key) && !groups.some((group) => key.startsWith(group))),
  ).toEqual([]);
});

test('numbers and plurals follow the language', () => {
  const say = translator('fr', TEXTS.fr, TEXTS.en);

  expect(say('confirm.images', { count: 1 })).toBe('1 image');
  expect(say('confirm.images', { count: 1234 })).toBe(`${new Intl.NumberFormat('fr').format(1234)} images`);
  expect(say('journey.carriedBy', { by: 'Asha' })).toBe('Il est en chemin avec Asha.');
  expect(say('nothing.known')).toBe('nothing.known');
});

/** Testers find by it what was never given to translators; it must say everything itself. */
test('the pseudo-locale says everything, longer and with the same names to fill in', () => {
  const said = flatten(pseudo(en));

  expect([...said.keys()]).toEqual([...TEXTS.en.keys()]);
  for (const [key, text] of TEXTS.en) {
    const other = said.get(key) ?? '';
    expect(other.length).toBeGreaterThan(text.length * 1.3);
    expect(other.match(/\{\{\w+\}\}/g)).toEqual(text.match(/\{\{\w+\}\}/g));
  }
});
