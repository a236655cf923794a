/** Codes that people read to each other. */

/** Return a short code such as `K7F-2QX`: the first 32 bits of a hex id in base 36. */
export function shortCode(id: string): string {
  const number = Number.parseInt(id.replaceAll('-', '').slice(0, 8), 16);
  const digits = (number % 36 ** 6).toString(36).toUpperCase().padStart(6, '0');
  return `${digits.slice(0, 3)}-${digits.slice(3)}`;
}

/** Return an enrolment code as the node wants it, however it was typed or pasted. */
export function enrolCode(typed: string): string {
  return typed.replaceAll(/\s+/g, '').toUpperCase();
}

/** Return the code that an address such as `https://clinic:8443/#enrol=CODE` carries, or null. */
export function enrolCodeOf(fragment: string): string | null {
  const found = /^#enrol=(.+)$/.exec(fragment)?.[1];
  if (found === undefined) return null;
  try {
    return enrolCode(decodeURIComponent(found)) || null;
  } catch {
    return null;
  }
}
