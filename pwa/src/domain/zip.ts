/**
 * A ZIP of stored members (PKWARE APPNOTE 6.3.10), written in one pass.
 *
 * One submission of several files is one such ZIP. Members are not compressed: the bytes of a file
 * stand in it as they are, so that a digest over them needs no unpacking. Sizes and the checksum
 * stand in the local header; a writer that learns the checksum last writes that header again.
 */

const LIMIT_32 = 0xffffffff;
const LIMIT_16 = 0xffff;
const UTF8_NAMES = 0x0800;
/** 1 January 1980, the first day that ZIP knows: the time of a file says nothing that we need. */
const NO_DATE = 0x0021;

/** One file of the ZIP. `offset`: where its local header stands. */
export interface ZipMember {
  readonly name: string;
  readonly size: number;
  readonly crc: number;
  readonly offset: number;
}

/** Return what stands before the member's bytes. Its length depends on the name and the size alone. */
export function localHeader(member: Omit<ZipMember, 'offset'>): Uint8Array {
  const name = new TextEncoder().encode(member.name);
  const big = member.size >= LIMIT_32;
  const out = new Writer(30 + name.length + (big ? 20 : 0));
  out
    .u32(0x04034b50)
    .u16(big ? 45 : 20)
    .u16(UTF8_NAMES)
    .u16(0)
    .u16(0)
    .u16(NO_DATE)
    .u32(member.crc);
  out.u32(big ? LIMIT_32 : member.size).u32(big ? LIMIT_32 : member.size);
  out
    .u16(name.length)
    .u16(big ? 20 : 0)
    .raw(name);
  if (big) out.u16(0x0001).u16(16).u64(member.size).u64(member.size);
  return out.bytes;
}

/** Return what stands after the last member's bytes: central directory and end records. */
export function trailer(members: readonly ZipMember[], start: number): Uint8Array {
  const entries = members.map(centralEntry);
  const size = entries.reduce((sum, entry) => sum + entry.length, 0);
  const big = members.length >= LIMIT_16 || size >= LIMIT_32 || start >= LIMIT_32;
  const out = new Writer(size + (big ? 56 + 20 : 0) + 22);
  for (const entry of entries) out.raw(entry);
  if (big) {
    out.u32(0x06064b50).u64(44).u16(45).u16(45).u32(0).u32(0);
    out.u64(members.length).u64(members.length).u64(size).u64(start);
    out
      .u32(0x07064b50)
      .u32(0)
      .u64(start + size)
      .u32(1);
  }
  const count = big ? LIMIT_16 : members.length;
  out.u32(0x06054b50).u16(0).u16(0).u16(count).u16(count);
  out
    .u32(big ? LIMIT_32 : size)
    .u32(big ? LIMIT_32 : start)
    .u16(0);
  return out.bytes;
}

function centralEntry(member: ZipMember): Uint8Array {
  const name = new TextEncoder().encode(member.name);
  const bigSize = member.size >= LIMIT_32;
  const bigOffset = member.offset >= LIMIT_32;
  const extra = (bigSize ? 16 : 0) + (bigOffset ? 8 : 0);
  const out = new Writer(46 + name.length + (extra ? extra + 4 : 0));
  out
    .u32(0x02014b50)
    .u16(extra ? 45 : 20)
    .u16(extra ? 45 : 20)
    .u16(UTF8_NAMES)
    .u16(0)
    .u16(0)
    .u16(NO_DATE);
  out
    .u32(member.crc)
    .u32(bigSize ? LIMIT_32 : member.size)
    .u32(bigSize ? LIMIT_32 : member.size);
  out
    .u16(name.length)
    .u16(extra ? extra + 4 : 0)
    .u16(0)
    .u16(0)
    .u16(0)
    .u32(0);
  out.u32(bigOffset ? LIMIT_32 : member.offset).raw(name);
  if (extra) {
    out.u16(0x0001).u16(extra);
    if (bigSize) out.u64(member.size).u64(member.size);
    if (bigOffset) out.u64(member.offset);
  }
  return out.bytes;
}

/** Return the member names for `paths`: relative, with `/`, without steps upwards, each one once. */
export function memberNames(paths: readonly string[]): readonly string[] {
  const taken = new Set<string>();
  return paths.map((path) => {
    const steps = path.split(/[/\\]/).filter((step) => step !== '' && step !== '.' && step !== '..');
    const wanted = steps.join('/') || 'file';
    let name = wanted;
    for (let n = 2; taken.has(name.toLowerCase()); n += 1) name = `${wanted}~${n}`;
    taken.add(name.toLowerCase());
    return name;
  });
}

class Writer {
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  u16(value: number): this {
    this.view.setUint16(this.at, value, true);
    this.at += 2;
    return this;
  }

  u32(value: number): this {
    this.view.setUint32(this.at, value, true);
    this.at += 4;
    return this;
  }

  u64(value: number): this {
    this.view.setBigUint64(this.at, BigInt(value), true);
    this.at += 8;
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
    return this;
  }
}
