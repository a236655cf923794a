/** Sizes, shares and dates as values for Intl; the wording is the language's. */

export interface Quantity {
  readonly value: number;
  readonly unit: 'kilobyte' | 'megabyte' | 'gigabyte';
}

/** Return `bytes` in the unit that a person would say, with decimal prefixes. */
export function quantity(bytes: number): Quantity {
  if (bytes >= 1e9) return { value: Math.round(bytes / 1e8) / 10, unit: 'gigabyte' };
  if (bytes >= 1e7) return { value: Math.round(bytes / 1e6), unit: 'megabyte' };
  if (bytes >= 1e6) return { value: Math.round(bytes / 1e5) / 10, unit: 'megabyte' };
  return { value: Math.max(bytes === 0 ? 0 : 1, Math.round(bytes / 1e3)), unit: 'kilobyte' };
}

/** Return whole percent; 100 only when all is there. */
export function percent(done: number, total: number): number {
  if (total <= 0) return 0;
  return done >= total ? 100 : Math.min(99, Math.floor((100 * done) / total));
}

/** Return a DICOM date (VR DA, `YYYYMMDD`) as `YYYY-MM-DD`, or null when it is none. */
export function isoDate(da: string): string | null {
  const found = /^(\d{4})\.?(\d{2})\.?(\d{2})$/.exec(da.trim());
  if (!found) return null;
  const [, year, month, day] = found;
  const date = new Date(`${year}-${month}-${day}T00:00:00Z`);
  const iso = `${year}-${month}-${day}`;
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(iso) ? iso : null;
}

/** Return a person's name (VR PN) for reading: `Family, Given Middle`, with the other scripts behind. */
export function readableName(pn: string): string {
  const groups = pn.split('=').map((group) => {
    const [family = '', given = '', middle = '', prefix = '', suffix = ''] = group
      .split('^')
      .map((c) => c.trim());
    const rest = [prefix, given, middle, suffix].filter(Boolean).join(' ');
    return [family, rest].filter(Boolean).join(', ');
  });
  const [first = '', ...others] = groups.filter(Boolean);
  return others.length > 0 ? `${first} (${others.join(', ')})` : first;
}
