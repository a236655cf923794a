/**
 * DICOM without its beginning: what stands in front of it in a Part 10 file, made as the node makes it
 * (`node/intake/detect.py`, `headless.py`). A PACS takes Part 10 files only; the data set stays as it is.
 */

/** How a file begins: with the file meta information, or with a data set of either byte order. */
export type Beginning = 'bare' | 'headless' | 'headless-big';

/** So many octets tell how a file begins, and so many are searched for what a header needs. */
export const BEGINNING_BYTES = 144;
export const SEARCHED_BYTES = 16 * 1024;

/** The front of file meta information: the preamble and its sign, and nothing of ours. */
export const BARE_BYTES = 132;

const PLAUSIBLE_LENGTH = 1 << 12;
const LAST_PLAUSIBLE = 0x0300;
const LONG_AT_THE_START = new Set(['OB', 'UN', 'UT', 'SQ']);
const LONG = new Set([...LONG_AT_THE_START, 'OW', 'UC', 'UR']);
/** Our programs, as the writer of the header. */
const IMPLEMENTATION = '2.25.2876111296117392022439180827121289';
const IMPLICIT = '1.2.840.10008.1.2';
const EXPLICIT = '1.2.840.10008.1.2.1';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';
const SOP_CLASS = 0x0016;
const SOP_INSTANCE = 0x0018;
const MAGIC = [0x44, 0x49, 0x43, 0x4d];

/** Return how DICOM without a preamble begins; null for anything else. */
export function beginningOf(start: Uint8Array): Beginning | null {
  if (beginsWithGroup(start, 0x0002, { little: true, explicitOnly: true })) return 'bare';
  if (beginsWithGroup(start, 0x0008, { little: true, explicitOnly: false })) return 'headless';
  if (beginsWithGroup(start, 0x0008, { little: false, explicitOnly: true })) return 'headless-big';
  return null;
}

/** Return what has to stand in front; null when the data set does not say of which image it is. */
export function frontOf(beginning: Beginning, start: Uint8Array): Uint8Array | null {
  const preamble = new Uint8Array(BARE_BYTES);
  preamble.set(MAGIC, 128);
  if (beginning === 'bare') return preamble;
  const header = headerOf(start, beginning === 'headless');
  return header && joined([preamble, header]);
}

const vrAt = (data: Uint8Array, at: number): string | null => {
  const vr = String.fromCharCode(...data.subarray(at, at + 2));
  return /^[A-Z]{2}$/.test(vr) ? vr : null;
};

/** Return whether the file begins with two plausible elements of a group. */
function beginsWithGroup(
  start: Uint8Array,
  group: number,
  { little, explicitOnly }: { readonly little: boolean; readonly explicitOnly: boolean },
): boolean {
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  let at = 0;
  for (let n = 0; n < 2; n += 1) {
    if (start.length < at + 8) return false;
    if (view.getUint16(at, little) !== group || view.getUint16(at + 2, little) > LAST_PLAUSIBLE) return false;
    const vr = vrAt(start, at + 4);
    if (vr === null && explicitOnly) return false;
    const long = vr !== null && LONG_AT_THE_START.has(vr);
    if (long && start.length < at + 12) return false;
    const length =
      vr === null
        ? view.getUint32(at + 4, little)
        : long
          ? view.getUint32(at + 8, little)
          : view.getUint16(at + 6, little);
    if (length > PLAUSIBLE_LENGTH) return false;
    at += (long ? 12 : 8) + length;
    if (at + 8 > start.length) return true;
  }
  return true;
}

/** Return the file meta information of a data set that begins with group 0008. */
function headerOf(start: Uint8Array, little: boolean): Uint8Array | null {
  const data = start.subarray(0, SEARCHED_BYTES);
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const explicit = vrAt(data, 4) !== null;
  const found = new Map<number, string>();
  for (let at = 0; at + 12 <= data.length && found.size < 2; ) {
    const group = view.getUint16(at, little);
    const element = view.getUint16(at + 2, little);
    if (group > 0x0008 || (group === 0x0008 && element > SOP_INSTANCE)) break;
    const long = explicit && LONG.has(String.fromCharCode(...data.subarray(at + 4, at + 6)));
    const head = long ? 12 : 8;
    const length = !explicit
      ? view.getUint32(at + 4, little)
      : long
        ? view.getUint32(at + 8, little)
        : view.getUint16(at + 6, little);
    if (group === 0x0008 && (element === SOP_CLASS || element === SOP_INSTANCE))
      found.set(element, uidOf(data.subarray(at + head, at + head + length)));
    at += head + length;
  }
  const [sopClass, instance] = [found.get(SOP_CLASS), found.get(SOP_INSTANCE)];
  if (![sopClass, instance].every((uid) => uid && uid.length <= 64)) return null;
  const syntax = explicit ? (little ? EXPLICIT : BIG_ENDIAN) : IMPLICIT;
  const rest = joined([
    element(0x01, 'OB', new Uint8Array([0, 1])),
    element(0x02, 'UI', ascii(sopClass as string)),
    element(0x03, 'UI', ascii(instance as string)),
    element(0x10, 'UI', ascii(syntax)),
    element(0x12, 'UI', ascii(IMPLEMENTATION)),
  ]);
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, rest.length, true);
  return joined([element(0x00, 'UL', size), rest]);
}

/** Padded with NUL or space (PS3.5 §6.2). */
function uidOf(value: Uint8Array): string {
  return String.fromCharCode(...value.subarray(0, 70)).replace(/[\0 ]+$/, '');
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Encode an element of group 0002, explicit VR little endian, padded with NUL. */
function element(number: number, vr: string, value: Uint8Array): Uint8Array {
  const length = value.length + (value.length % 2);
  const head = vr === 'OB' ? 12 : 8;
  const out = new Uint8Array(head + length);
  const view = new DataView(out.buffer);
  view.setUint16(0, 2, true);
  view.setUint16(2, number, true);
  out.set(ascii(vr), 4);
  if (vr === 'OB') view.setUint32(8, length, true);
  else view.setUint16(6, length, true);
  out.set(value, head);
  return out;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
