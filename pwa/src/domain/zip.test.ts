import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 as zlibCrc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { crc32 } from './crc32';
import { localHeader, memberNames, trailer, type ZipMember } from './zip';

const FILES = [
  { name: 'CT/eins.dcm', bytes: new TextEncoder().encode('first') },
  { name: 'CT/дваж.dcm', bytes: new Uint8Array(70_001).map((_, n) => n % 251) },
  { name: 'leer', bytes: new Uint8Array(0) },
];

function zipOf(files: readonly { name: string; bytes: Uint8Array }[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const members: ZipMember[] = [];
  let at = 0;
  for (const { name, bytes } of files) {
    const member = { name, size: bytes.length, crc: crc32(bytes), offset: at };
    parts.push(localHeader(member), bytes);
    members.push(member);
    at += localHeader(member).length + bytes.length;
  }
  parts.push(trailer(members, at));
  return new Uint8Array(Buffer.concat(parts));
}

function readByPython(zip: Uint8Array): string {
  const folder = mkdtempSync(join(tmpdir(), 'zip-'));
  const script = `
import sys, zipfile, hashlib, json
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
print(json.dumps([len(z.namelist())] + [[i.filename, i.compress_type, len(z.read(i))] for i in z.infolist()[:5]]))`;
  try {
    writeFileSync(join(folder, 'a.zip'), zip);
    return execFileSync('python3', ['-c', script, join(folder, 'a.zip')], { encoding: 'utf8' }).trim();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The node reads submissions with Python's zipfile: what it cannot read, nobody gets. */
test('another reader finds every member, its name and its bytes', () => {
  expect(JSON.parse(readByPython(zipOf(FILES)))).toEqual([
    3,
    ['CT/eins.dcm', 0, 5],
    ['CT/дваж.dcm', 0, 70_001],
    ['leer', 0, 0],
  ]);
});

/** A CT with many small files passes the 65,535 of the old format. */
test('seventy thousand members are all found', () => {
  const many = Array.from({ length: 70_000 }, (_, n) => ({
    name: `I${n}`,
    bytes: new Uint8Array([n & 255]),
  }));

  expect(JSON.parse(readByPython(zipOf(many)))[0]).toBe(70_000);
});

/** Sizes beyond 4 GiB stand in the Zip64 field, where readers look when the old field is full. */
test('a member beyond four gigabytes says its size and place in Zip64', () => {
  const size = 5_000_000_000;
  const header = localHeader({ name: 'a', size, crc: 1 });
  const view = new DataView(header.buffer);
  const end = trailer([{ name: 'a', size, crc: 1, offset: 6_000_000_000 }], 11_000_000_100);
  const central = new DataView(end.buffer);

  expect(view.getUint32(18, true)).toBe(0xffffffff);
  expect(view.getUint16(31, true)).toBe(0x0001);
  expect(view.getBigUint64(35, true)).toBe(BigInt(size));
  expect(central.getBigUint64(47 + 4, true)).toBe(BigInt(size));
  expect(central.getBigUint64(47 + 20, true)).toBe(6_000_000_000n);
  expect(central.getUint32(47 + 28, true)).toBe(0x06064b50);
  expect(central.getBigUint64(47 + 28 + 48, true)).toBe(11_000_000_100n);
});

/** A header is written before the checksum is known, and again after: both must fill the same room. */
test('the length of a header does not depend on the checksum', () => {
  expect(localHeader({ name: 'x', size: 9, crc: 0 }).length).toBe(
    localHeader({ name: 'x', size: 9, crc: 0xffffffff }).length,
  );
});

test('the checksum equals that of zlib, in one go or in parts', () => {
  const bytes = new Uint8Array(100_003).map((_, n) => (n * 31 + (n >> 8)) & 255);

  expect(crc32(bytes)).toBe(zlibCrc32(bytes));
  expect(crc32(bytes.subarray(777), crc32(bytes.subarray(0, 777)))).toBe(zlibCrc32(bytes));
});

/** A name must not lead a careless unpacker out of its folder, nor hide another file. */
test('names stay inside the ZIP and are told apart', () => {
  expect(memberNames(['../../etc/passwd', 'a\\b', 'A/B', '', 'a/b'])).toEqual([
    'etc/passwd',
    'a/b',
    'A/B~2',
    'file',
    'a/b~3',
  ]);
});
