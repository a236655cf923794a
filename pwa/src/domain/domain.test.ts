import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/** The domain decides with values alone, so that each decision can be tested without a browser. */
test('the domain touches no network, clock, storage, screen or chance', () => {
  const folder = new URL('.', import.meta.url);
  const modules = readdirSync(folder).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  const forbidden =
    /\b(fetch|Date\.now|new Date\(\)|document|window|navigator|indexedDB|localStorage|Math\.random|crypto|setTimeout|performance)\b/;

  const strays = modules.filter((name) => {
    const text = readFileSync(new URL(name, folder), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    const imports = [...text.matchAll(/from '([^']+)'/g)].map((match) => match[1] as string);
    return forbidden.test(text) || imports.some((from) => !from.startsWith('./'));
  });

  expect(modules.length).toBeGreaterThan(5);
  expect(strays).toEqual([]);
});
