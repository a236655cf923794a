import { expect, test } from 'vitest';
import { missing, modalitiesOf, patientOf, type TypedPatient } from './pictures';

const TYPED: TypedPatient = {
  family: 'Doe',
  given: 'Archibald',
  id: '',
  birthDate: '1950-02-03',
  sex: 'M',
  studyDate: '2026-11-25',
  bodyPart: 'HAND',
};

test('what is typed becomes what DICOM writes', () => {
  expect(patientOf(TYPED)).toEqual({ name: 'Doe^Archibald', id: '', birthDate: '19500203', sex: 'M' });
});

/** These signs end a component or a value: a name with them would be another name. */
test('signs with a meaning in DICOM do not get into a name', () => {
  expect(patientOf({ ...TYPED, family: ' O^Neill=\\ ', given: 'A\tB' }).name).toBe('O Neill^A B');
});

test('a name and a date are asked for, and nothing more', () => {
  expect(missing({ ...TYPED, family: ' ', given: '', studyDate: '' })).toEqual(['name', 'study-date']);
  expect(missing({ ...TYPED, given: '', birthDate: '', sex: '', bodyPart: '' })).toEqual([]);
});

test('photos and papers are told apart for the list', () => {
  expect(
    modalitiesOf([
      { index: 1, use: 'photo' },
      { index: 2, use: 'pdf' },
      { index: 3, use: 'photo' },
    ]),
  ).toEqual(['XC', 'DOC']);
});
