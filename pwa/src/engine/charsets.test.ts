import { expect, test } from 'vitest';
import { decodeText } from './charsets';

const bytes = (hex: string): Uint8Array =>
  new Uint8Array((hex.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)));
const ascii = (text: string): string => Buffer.from(text).toString('hex');

/** The examples of PS3.5 annexes H, I, J and K: a name that cannot be read cannot be confirmed. */
test.each([
  [
    'ISO 2022 IR 6\\ISO 2022 IR 87',
    `${ascii('Yamada^Tarou=')}1b24423b3345441b28425e1b244242404f3a1b2842`,
    'Yamada^Tarou=山田^太郎',
  ],
  ['ISO 2022 IR 13\\ISO 2022 IR 87', `d4cfc0de5ec0dbb33d1b24423b3345441b284a`, 'ﾔﾏﾀﾞ^ﾀﾛｳ=山田'],
  ['\\ISO 2022 IR 149', `${ascii('Hong^Gildong=')}1b242943fbf35e1b242943d1ced4d7`, 'Hong^Gildong=洪^吉洞'],
  ['\\ISO 2022 IR 58', `${ascii('Zhang^XiaoDong=')}1b242941d5c55e1b242941d0a1b6ab`, 'Zhang^XiaoDong=张^小东'],
  ['GB18030', `${ascii('Wang^XiaoDong=')}cdf55ed0a1b6ab`, 'Wang^XiaoDong=王^小东'],
  ['ISO_IR 192', Buffer.from('Wang^XiaoDong=王^小東').toString('hex'), 'Wang^XiaoDong=王^小東'],
  ['ISO_IR 144', 'bbeedae1d5dcd1e3e0d3', 'Люксембург'],
  ['ISO_IR 100', '4275637e4ae972f46d65', 'Buc~Jérôme'],
  ['', '446f65205e4a616e6500', 'Doe ^Jane'],
])('a name in %s is read as it was written', (charset, hex, name) => {
  const read = decodeText(bytes(hex), charset.split('\\'));

  expect(read.normalize('NFC')).toBe(name);
});

test('an escape that is not known does not lose the rest', () => {
  expect(decodeText(bytes(`${ascii('A')}1b7a7a${ascii('B')}`), [''])).toMatch(/^A.*B$/);
});
