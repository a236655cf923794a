/**
 * A pseudo-locale, made from the English texts: what stands plain on a screen was never given to
 * translators, what does not fit would not fit in German, and what is on the wrong side would be in Arabic.
 */

import type { Texts } from './translate';

const PLAIN = 'aceginorsuyAEIOU';
const ACCENTED = 'áçéĝïñöŕšúýÂÊÎÔÛ';
/** Other languages need up to so much more room. */
const LONGER = 0.4;

function accented(text: string): string {
  const said = text
    .split(/(\{\{\w+\}\})/)
    .map((part, n) =>
      n % 2 === 1 ? part : Array.from(part, (sign) => ACCENTED[PLAIN.indexOf(sign)] ?? sign).join(''),
    )
    .join('');
  return `⟦${said}${' ~'.repeat(Math.ceil((text.length * LONGER) / 2))}⟧`;
}

/** Return all texts in the pseudo-locale. */
export function pseudo(texts: Texts): Texts {
  return Object.fromEntries(
    Object.entries(texts).map(([key, text]) => [
      key,
      typeof text === 'string' ? accented(text) : pseudo(text),
    ]),
  );
}
