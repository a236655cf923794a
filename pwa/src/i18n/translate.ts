/** Texts from i18next JSON (version 4): `{{name}}` is filled in, `_one`, `_other` and so on by plural rules. */

export type Texts = { readonly [key: string]: string | Texts };
export type Values = Readonly<Record<string, string | number>>;

/** Return every text by its dotted key. */
export function flatten(texts: Texts, before = ''): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(texts).flatMap(([key, text]) =>
      typeof text === 'string' ? [[before + key, text] as const] : [...flatten(text, `${before}${key}.`)],
    ),
  );
}

export type Translate = (key: string, values?: Values) => string;

/** Return how to say a key in this language; what it lacks is said in `fallback`. */
export function translator(
  locale: string,
  texts: ReadonlyMap<string, string>,
  fallback: ReadonlyMap<string, string>,
): Translate {
  const plural = new Intl.PluralRules(locale);
  const number = new Intl.NumberFormat(locale);
  return (key, values = {}) => {
    const keys =
      typeof values.count === 'number'
        ? [`${key}_${plural.select(values.count)}`, `${key}_other`, key]
        : [key];
    const found = keys.map((k) => texts.get(k) ?? fallback.get(k)).find((text) => text !== undefined) ?? key;
    return found.replaceAll(/\{\{(\w+)\}\}/g, (_, name: string) => {
      const value = values[name];
      return typeof value === 'number' ? number.format(value) : (value ?? '');
    });
  };
}
