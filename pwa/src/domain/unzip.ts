/**
 * What stands in the directory of a ZIP (PKWARE APPNOTE 6.3.10 §4.3), Zip64 included.
 *
 * Looked at with the node's limits and by its codes, before anything is unpacked: names that climb out,
 * passwords, files on top of each other, more than can be meant. Sizes that a member claims are checked
 * again by whoever unpacks it.
 */

const MEMBER_LIMIT = 20_000;
const SIZE_LIMIT = 16 * 2 ** 30;
const RATIO_LIMIT = 200;
/** A black image packs by a thousand, and up to this size it harms nobody. */
const RATIO_FLOOR = 16 * 2 ** 20;

const END = 0x06054b50;
const END_BYTES = 22;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const LOCATOR_BYTES = 20;
const CENTRAL = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL = 0x04034b50;
const FULL_16 = 0xffff;
const FULL_32 = 0xffffffff;
const ENCRYPTED = 0x1;
const UTF8_NAME = 0x800;
const SYMLINK = 0o120000;
const FILE_TYPE = 0o170000;

/** The end record, its longest comment and the locator before it lie within so many bytes. */
export const TAIL_BYTES = END_BYTES + FULL_16 + LOCATOR_BYTES;
/** The end record of Zip64, without what may follow in it. */
export const END_64_BYTES = 56;
export const LOCAL_BYTES = 30;

export type ZipCode =
  | 'zip-damaged'
  | 'zip-encrypted'
  | 'zip-climbs-out'
  | 'zip-overlaps'
  | 'zip-too-large'
  | 'empty-archive';

/** The whole ZIP is refused; `code` is the node's (docs/journeys.md). */
export class BadZip extends Error {
  override readonly name = 'BadZip';

  constructor(readonly code: ZipCode) {
    super(code);
  }
}

/** Where the directory lies, and how many members it names. */
export interface Directory {
  readonly at: number;
  readonly size: number;
  readonly count: number;
}

export interface PackedMember {
  readonly name: string;
  readonly size: number;
  readonly packed: number;
  readonly method: 'stored' | 'deflated';
  readonly crc: number;
  /** Where its local header stands. */
  readonly offset: number;
  /** Why it is not to be read. */
  readonly problem: 'zip-method' | 'zip-ratio' | 'zip-link' | null;
}

/** What the last bytes of a file say: where its directory is, or where the Zip64 record is that says so. */
export type End = { readonly directory: Directory } | { readonly zip64At: number };

/** Read the end record. `tail`: the last `TAIL_BYTES` of the file, or all of it. */
export function endOf(tail: Uint8Array, fileSize: number): End {
  const view = viewOf(tail);
  const base = fileSize - tail.length;
  for (let at = tail.length - END_BYTES; at >= 0; at -= 1) {
    if (view.getUint32(at, true) !== END) continue;
    if (at + END_BYTES + view.getUint16(at + 20, true) > tail.length) continue;
    const count = view.getUint16(at + 10, true);
    const size = view.getUint32(at + 12, true);
    const offset = view.getUint32(at + 16, true);
    const locator = at - LOCATOR_BYTES;
    if (locator >= 0 && view.getUint32(locator, true) === LOCATOR_64)
      return { zip64At: number64(view, locator + 8) };
    if (count === FULL_16 || offset === FULL_32) throw new BadZip('zip-damaged');
    return { directory: settled({ at: offset, size, count }, base + at) };
  }
  throw new BadZip('zip-damaged');
}

/** Read the Zip64 end record, which stands at `at`. */
export function end64Of(record: Uint8Array, at: number): Directory {
  const view = viewOf(record);
  if (record.length < END_64_BYTES || view.getUint32(0, true) !== END_64) throw new BadZip('zip-damaged');
  const directory = {
    count: number64(view, 32),
    size: number64(view, 40),
    at: number64(view, 48),
  };
  return settled(directory, at);
}

function settled(directory: Directory, end: number): Directory {
  if (directory.count > MEMBER_LIMIT) throw new BadZip('zip-too-large');
  if (directory.at + directory.size > end) throw new BadZip('zip-damaged');
  return directory;
}

/** Return the files that the directory names, folders left out. Throws `BadZip`. */
export function membersOf(directory: Uint8Array, place: Directory): readonly PackedMember[] {
  const view = viewOf(directory);
  const all: PackedMember[] = [];
  let at = 0;
  for (let n = 0; n < place.count; n += 1) {
    if (at + CENTRAL_BYTES > directory.length || view.getUint32(at, true) !== CENTRAL)
      throw new BadZip('zip-damaged');
    const lengths = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const [nameLength = 0, extraLength = 0, commentLength = 0] = lengths;
    const end = at + CENTRAL_BYTES + nameLength + extraLength + commentLength;
    if (end > directory.length) throw new BadZip('zip-damaged');
    all.push(memberAt(directory, view, at, nameLength, extraLength));
    at = end;
  }
  check(all, place.at);
  const files = all.filter(({ name }) => !name.endsWith('/'));
  if (files.length === 0) throw new BadZip('empty-archive');
  return files;
}

function memberAt(
  directory: Uint8Array,
  view: DataView,
  at: number,
  nameLength: number,
  extraLength: number,
): PackedMember {
  const flags = view.getUint16(at + 8, true);
  if (flags & ENCRYPTED) throw new BadZip('zip-encrypted');
  const method = view.getUint16(at + 10, true);
  const nameAt = at + CENTRAL_BYTES;
  const name = text(directory.subarray(nameAt, nameAt + nameLength), (flags & UTF8_NAME) !== 0);
  if (climbs(name)) throw new BadZip('zip-climbs-out');
  const said = {
    size: view.getUint32(at + 24, true),
    packed: view.getUint32(at + 20, true),
    offset: view.getUint32(at + 42, true),
  };
  const { size, packed, offset } = large(view, nameAt + nameLength, extraLength, said);
  const isLink = ((view.getUint32(at + 38, true) >>> 16) & FILE_TYPE) === SYMLINK;
  return {
    name,
    size,
    packed,
    offset,
    method: method === 8 ? 'deflated' : 'stored',
    crc: view.getUint32(at + 16, true),
    problem: isLink
      ? 'zip-link'
      : method !== 0 && method !== 8
        ? 'zip-method'
        : size > Math.max(RATIO_FLOOR, packed * RATIO_LIMIT)
          ? 'zip-ratio'
          : null,
  };
}

interface Sizes {
  readonly size: number;
  readonly packed: number;
  readonly offset: number;
}

/** Return the sizes with those that stand in the Zip64 extra field: in this order, and only the full ones. */
function large(view: DataView, from: number, length: number, said: Sizes): Sizes {
  if (said.size !== FULL_32 && said.packed !== FULL_32 && said.offset !== FULL_32) return said;
  for (let at = from; at + 4 <= from + length; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 0x0001) continue;
    const end = Math.min(at + 4 + view.getUint16(at + 2, true), from + length);
    let next = at + 4;
    const take = (value: number): number => {
      if (value !== FULL_32) return value;
      if (next + 8 > end) throw new BadZip('zip-damaged');
      next += 8;
      return number64(view, next - 8);
    };
    const size = take(said.size);
    const packed = take(said.packed);
    return { size, packed, offset: take(said.offset) };
  }
  throw new BadZip('zip-damaged');
}

function check(members: readonly PackedMember[], directoryAt: number): void {
  if (members.reduce((sum, { size }) => sum + size, 0) > SIZE_LIMIT) throw new BadZip('zip-too-large');
  const byPlace = [...members].sort((a, b) => a.offset - b.offset);
  byPlace.forEach(({ offset, packed }, n) => {
    const end = byPlace[n + 1]?.offset ?? directoryAt;
    if (offset + LOCAL_BYTES + packed > end) throw new BadZip('zip-overlaps');
  });
}

/** Return where a member's bytes begin. `header`: the `LOCAL_BYTES` at its offset. */
export function bytesAt(header: Uint8Array, offset: number): number {
  const view = viewOf(header);
  if (header.length < LOCAL_BYTES || view.getUint32(0, true) !== LOCAL) throw new BadZip('zip-damaged');
  return offset + LOCAL_BYTES + view.getUint16(26, true) + view.getUint16(28, true);
}

function climbs(name: string): boolean {
  return name.split(/[/\\]/).includes('..') || /^[/\\]|^.:/.test(name);
}

function text(bytes: Uint8Array, utf8: boolean): string {
  try {
    return new TextDecoder('utf-8', { fatal: !utf8 }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function number64(view: DataView, at: number): number {
  const value = Number(view.getBigUint64(at, true));
  if (!Number.isSafeInteger(value)) throw new BadZip('zip-damaged');
  return value;
}
