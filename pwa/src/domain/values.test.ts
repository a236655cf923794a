import { expect, test } from 'vitest';
import { enrolCode, enrolCodeOf, scannedCode, shortCode } from './codes';
import { duplicates, group, type Reading, tooMuch } from './detection';
import { digestCount, digestText } from './digest';
import { isoDate, percent, quantity, readableName } from './units';

/** Node and device must come to one digest from files that they read in different orders. */
test('the digest text is sorted by code units and takes the first of files with one number', () => {
  const of = (instanceUid: string, sha256: string) => ({ instanceUid, sha256 });
  const files = [of('1.2.9', 'bb'), of('1.2.10', 'aa'), of('1.2.9', 'bb'), of('1.2.9', 'cc')];

  expect(digestText(files)).toBe('1.2.10 aa\n1.2.9 bb\n');
  expect(digestCount(files)).toBe(2);
});

/** The codes that a real node gave to these entries: phone and laptop must say the same. */
test('a short code is the one that the node says', () => {
  expect(shortCode('1a98a3b57d25990dc6b9f37ef44eaaa3442811d37e2cd66873b73101fc230f76')).toBe('3AC-A7D');
  expect(shortCode('815357c676de54cb2792ef8361179a777d53736662c88bca243e5f1fb2b71dcb')).toBe('G59-NFH');
  expect(shortCode('ffffffff-ffff')).toBe('ZZZ-ZZZ');
});

test('an enrolment code is read from the address and from careless typing', () => {
  expect(enrolCode(' ab12 cd34\n')).toBe('AB12CD34');
  expect(enrolCodeOf('#enrol=AB-12%20')).toBe('AB-12');
  expect(enrolCodeOf('#study/1')).toBeNull();
  expect(enrolCodeOf('#enrol=%E0%A4%A')).toBeNull();
});

test('sizes are said in the unit that a person would say', () => {
  expect(quantity(0)).toEqual({ value: 0, unit: 'kilobyte' });
  expect(quantity(12)).toEqual({ value: 1, unit: 'kilobyte' });
  expect(quantity(1_540_000)).toEqual({ value: 1.5, unit: 'megabyte' });
  expect(quantity(2_340_000_000)).toEqual({ value: 2.3, unit: 'gigabyte' });
});

/** A hundred percent is a promise. */
test('a hundred percent only when all is there', () => {
  expect(percent(9_999_999, 10_000_000)).toBe(99);
  expect(percent(10, 10)).toBe(100);
  expect(percent(0, 0)).toBe(0);
});

test('a date that no calendar has is not shown as one', () => {
  expect(isoDate('20240229')).toBe('2024-02-29');
  expect(isoDate('20230229')).toBeNull();
  expect(isoDate('1999.01.31')).toBe('1999-01-31');
  expect(isoDate('unknown')).toBeNull();
});

test('a name reads family first, with other scripts behind', () => {
  expect(readableName('Yamada^Tarou=山田^太郎=やまだ^たろう')).toBe(
    'Yamada, Tarou (山田, 太郎, やまだ, たろう)',
  );
  expect(readableName('Doe^Jane^^Dr')).toBe('Doe, Dr Jane');
  expect(readableName('=山田^太郎')).toBe('山田, 太郎');
});

function read(name: string, id: string, studyUid: string, instanceUid: string): Reading {
  const patient = { name, id, birthDate: '', sex: '' };
  return {
    kind: 'instance',
    front: new Uint8Array(0),
    header: { patient, studyUid, instanceUid, studyDate: '', modality: 'CT', description: '' },
  };
}

/** Two patients on one CD are never shown as one. */
test('files are grouped by patient and study, and what is left out is said', () => {
  const readings: readonly Reading[] = [
    read('A', '1', 's1', 'i1'),
    read('a ', '1', 's1', 'i2'),
    read('B', '1', 's2', 'i3'),
    { kind: 'skipped', reason: 'index' },
  ];
  const found = group(readings.map((reading, index) => ({ index, name: `f${index}`, size: 5, reading })));

  expect(
    found.patients.map((p) => [p.patient.name, p.studies.map((s) => [s.images, s.bytes, s.files])]),
  ).toEqual([
    ['A', [[2, 10, [0, 1]]]],
    ['B', [[1, 5, [2]]]],
  ]);
  expect(found.skipped).toEqual([{ reason: 'index', names: ['f3'] }]);
});

/** DICOMDIR, PS3.10: a scratched CD gives fewer images than it lists, and nobody counts them by hand. */
test('what the table of contents lists and is not here is said, study by study', () => {
  const listed = ['i1', 'i2', 'i3'].map((instanceUid) => ({ studyUid: 's1', instanceUid }));
  const readings: readonly Reading[] = [
    { kind: 'index', listed: [...listed, { studyUid: 's2', instanceUid: 'i9' }] },
    read('A', '1', 's1', 'i1'),
    read('A', '1', 's1', 'i2'),
    read('A', '1', 's1', 'i2'),
  ];
  const found = group(readings.map((reading, index) => ({ index, name: `f${index}`, size: 5, reading })));
  const [study] = found.patients[0]?.studies ?? [];

  expect(found.directory).toEqual({ listed: 4, present: 2, nameless: 0 });
  expect(study).toMatchObject({ images: 2, missing: 1 });
  expect(study && duplicates(study)).toBe(1);
});

test('more than one submission holds is noticed before anything is copied', () => {
  const readings = Array.from({ length: 9 }, (_, n) => read('A', '1', 's1', `i${n}`));
  const of = (size: number) =>
    group(readings.map((reading, index) => ({ index, name: '', size, reading }))).patients[0]?.studies ?? [];

  expect(tooMuch(of(1e6))).toBe(false);
  expect(tooMuch(of(2e9))).toBe(true);
});

test('a photo is neither an image of a study nor left out', () => {
  const found = group([{ index: 0, name: 'IMG.jpg', size: 5, reading: { kind: 'picture', as: 'jpeg' } }]);

  expect(found.pictures).toEqual([{ index: 0, name: 'IMG.jpg', size: 5, kind: 'jpeg' }]);
  expect([found.patients, found.skipped]).toEqual([[], []]);
});

test('an enrolment code is found in what a camera reads, and nothing else is', () => {
  expect(scannedCode('https://clinic:8443/#enrol=ABCD-EFGH-JKMN')).toBe('ABCD-EFGH-JKMN');
  expect(scannedCode('abcd-efgh-jkmn')).toBe('ABCD-EFGH-JKMN');
  expect(scannedCode('https://example.org/menu')).toBeNull();
});
