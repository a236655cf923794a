/** The languages of the app and what Intl says in them. */

import { isoDate, type Quantity, quantity } from '../domain/units';
import en from './en.json';
import fr from './fr.json';
import { flatten, type Translate, translator } from './translate';

export const LOCALES = { en: 'English', fr: 'Français' } as const;
export type Locale = keyof typeof LOCALES;

const TEXTS = { en: flatten(en), fr: flatten(fr) };
const RIGHT_TO_LEFT = new Set(['ar', 'fa', 'he', 'ur']);

export interface Language {
  readonly locale: Locale;
  readonly direction: 'ltr' | 'rtl';
  readonly t: Translate;
  size(bytes: number): string;
  percent(whole: number): string;
  list(items: readonly string[]): string;
  /** A DICOM date, or null when it is none. */
  date(da: string): string | null;
  moment(ms: number): string;
}

/** Return the language that fits best among those that a person wants. */
export function bestLocale(wanted: readonly string[]): Locale {
  const found = wanted.map((tag) => tag.split('-')[0] ?? '').find((tag) => tag in LOCALES);
  return (found ?? 'en') as Locale;
}

/** `wanted`: a person's languages with their regions, for the order of day and month. */
export function language(locale: Locale, wanted: readonly string[]): Language {
  const tag = wanted.find((known) => known.split('-')[0] === locale) ?? locale;
  const days = new Intl.DateTimeFormat(tag, { dateStyle: 'long', timeZone: 'UTC' });
  const moments = new Intl.DateTimeFormat(tag, { dateStyle: 'medium', timeStyle: 'short' });
  const shares = new Intl.NumberFormat(locale, { style: 'percent' });
  const lists = new Intl.ListFormat(locale, { type: 'unit', style: 'short' });
  const size = ({ value, unit }: Quantity): string =>
    new Intl.NumberFormat(locale, { style: 'unit', unit, unitDisplay: 'short' }).format(value);
  return {
    locale,
    direction: RIGHT_TO_LEFT.has(locale) ? 'rtl' : 'ltr',
    t: translator(locale, TEXTS[locale], TEXTS.en),
    size: (bytes) => size(quantity(bytes)),
    percent: (whole) => shares.format(whole / 100),
    list: (items) => lists.format(items),
    date: (da) => {
      const iso = isoDate(da);
      return iso === null ? null : days.format(new Date(`${iso}T00:00:00Z`));
    },
    moment: (ms) => moments.format(ms),
  };
}
