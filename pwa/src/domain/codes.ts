/** Codes that people read to each other. */

/** Crockford's base 32: nothing in it looks like something else. */
const SIGNS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** Return a short code such as `K7F-2QX` for a hex id, made as the node makes those of its entries. */
export function shortCode(id: string): string {
  const number = Number.parseInt(id.replaceAll('-', '').slice(0, 8), 16) >>> 2;
  const signs = [25, 20, 15, 10, 5, 0].map((bits) => SIGNS[(number >>> bits) & 31]).join('');
  return `${signs.slice(0, 3)}-${signs.slice(3)}`;
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

/** Return the code that a QR code holds: the code itself, or an address with it. Null for any other. */
export function scannedCode(text: string): string | null {
  const fragment = text.indexOf('#enrol=');
  if (fragment !== -1) return enrolCodeOf(text.slice(fragment));
  const code = enrolCode(text);
  return /^[0-9A-Z-]{8,64}$/.test(code) ? code : null;
}
