/** The languages of the app and what Intl says in them. */

import { isoDate, type Quantity, quantity } from '../domain/units';
import en from './en.json';
import { flatten, type Texts, type Translate, translator } from './translate';

export const LOCALES = { en: 'English', fr: 'Français' } as const;
/** For whoever tests the app: English with long accented words, from right to left (CLDR calls it so). */
export const PSEUDO = 'ar-XB';
export type Locale = keyof typeof LOCALES | typeof PSEUDO;

const RIGHT_TO_LEFT = new Set<Locale>([PSEUDO]);

/** English comes with the app; the others are fetched when they are wanted, and kept for offline. */
const OTHERS: Readonly<Record<Exclude<Locale, 'en'>, () => Promise<Texts>>> = {
  fr: async () => (await import('./fr.json')).default,
  [PSEUDO]: async () => (await import('./pseudo')).pseudo(en),
};

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
  /** A span of time, rounded as a person would say it. */
  span(seconds: number): string;
}

/** Return the language that fits best among those that a person wants. */
export function bestLocale(wanted: readonly string[]): Locale {
  if (wanted[0] === PSEUDO) return PSEUDO;
  const found = wanted.map((tag) => tag.split('-')[0] ?? '').find((tag) => tag in LOCALES);
  return (found ?? 'en') as Locale;
}

/** `wanted`: a person's languages with their regions, for the order of day and month. */
export async function languageOf(locale: Locale, wanted: readonly string[]): Promise<Language> {
  return made(locale, locale === 'en' ? en : await OTHERS[locale](), wanted);
}

function made(locale: Locale, texts: Texts, wanted: readonly string[]): Language {
  const tag = wanted.find((known) => known.split('-')[0] === locale) ?? locale;
  const days = new Intl.DateTimeFormat(tag, { dateStyle: 'long', timeZone: 'UTC' });
  const moments = new Intl.DateTimeFormat(tag, { dateStyle: 'medium', timeStyle: 'short' });
  const shares = new Intl.NumberFormat(locale, { style: 'percent' });
  const lists = new Intl.ListFormat(locale, { type: 'unit', style: 'short' });
  const unit = (value: number, name: string, display: 'short' | 'long'): string =>
    new Intl.NumberFormat(locale, { style: 'unit', unit: name, unitDisplay: display }).format(value);
  const size = ({ value, unit: name }: Quantity): string => unit(value, name, 'short');
  return {
    locale,
    direction: RIGHT_TO_LEFT.has(locale) ? 'rtl' : 'ltr',
    t: translator(locale, flatten(texts), flatten(en)),
    size: (bytes) => size(quantity(bytes)),
    percent: (whole) => shares.format(whole / 100),
    list: (items) => lists.format(items),
    date: (da) => {
      const iso = isoDate(da);
      return iso === null ? null : days.format(new Date(`${iso}T00:00:00Z`));
    },
    moment: (ms) => moments.format(ms),
    span: (seconds) => {
      if (seconds < 100) return unit(Math.max(1, Math.ceil(seconds)), 'second', 'long');
      if (seconds < 5400) return unit(Math.round(seconds / 60), 'minute', 'long');
      return unit(Math.round(seconds / 3600), 'hour', 'long');
    },
  };
}

/** What is there before anything is fetched. */
export const LOADED: Language = made('en', en, typeof navigator === 'undefined' ? [] : navigator.languages);
