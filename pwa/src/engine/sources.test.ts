import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { BadZip, END_64_BYTES, end64Of, endOf, membersOf, TAIL_BYTES } from '../domain/unzip';
import { openZip } from './sources';

/** Run a few lines of Python that write `a.zip`, and return its bytes: another program's ZIP, not ours. */
function zipBy(lines: string): Uint8Array<ArrayBuffer> {
  const folder = mkdtempSync(join(tmpdir(), 'unzip-'));
  try {
    execFileSync('python3', ['-c', `import zipfile, struct\n${lines}`], { cwd: folder });
    return new Uint8Array(readFileSync(join(folder, 'a.zip')));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function read(zip: Uint8Array) {
  const end = endOf(zip.subarray(Math.max(0, zip.length - TAIL_BYTES)), zip.length);
  const place =
    'directory' in end
      ? end.directory
      : end64Of(zip.subarray(end.zip64At, end.zip64At + END_64_BYTES), end.zip64At);
  return membersOf(zip.subarray(place.at, place.at + place.size), place);
}

const ORDINARY = `
with zipfile.ZipFile("a.zip", "w") as z:
    z.mkdir("CT") if hasattr(z, "mkdir") else z.writestr("CT/", "")
    z.writestr("CT/дважды.dcm", b"packed " * 1000, zipfile.ZIP_DEFLATED)
    z.writestr("stored", b"as it is", zipfile.ZIP_STORED)
    z.comment = b"a comment " * 100`;

test('the files of an ordinary ZIP are found, folders are not', () => {
  expect(read(zipBy(ORDINARY)).map(({ name, size, method }) => [name, size, method])).toEqual([
    ['CT/дважды.dcm', 7000, 'deflated'],
    ['stored', 8, 'stored'],
  ]);
});

/** Written by streams, and by programs that always use Zip64: sizes stand in an extra field. */
test('Zip64 is read, of the directory and of a member', () => {
  const zip = zipBy(`
zipfile.ZIP_FILECOUNT_LIMIT = 1
zipfile.ZIP64_LIMIT = 4
with zipfile.ZipFile("a.zip", "w") as z:
    for n in range(3):
        with z.open(f"I{n}", "w", force_zip64=True) as f:
            f.write(b"image %d" % n)`);

  expect('zip64At' in endOf(zip, zip.length)).toBe(true);
  expect(read(zip).map(({ name, size }) => [name, size])).toEqual([
    ['I0', 7],
    ['I1', 7],
    ['I2', 7],
  ]);
});

test('members are unpacked as they were', async () => {
  const file = new File([zipBy(ORDINARY)], 'a.zip');
  const opened = await openZip({ file, path: 'a.zip' });
  if (!('members' in opened)) throw new Error('it was not opened');
  const texts = [];
  for (const member of opened.members) {
    if ('problem' in member) throw new Error(member.problem);
    const pieces: Uint8Array[] = [];
    for await (const piece of member.pieces()) pieces.push(piece.slice());
    texts.push(Buffer.concat(pieces).toString());
    expect(Buffer.from(await member.start(5)).toString()).toBe(texts.at(-1)?.slice(0, 5));
  }

  expect(texts).toEqual(['packed '.repeat(1000), 'as it is']);
});

/** Its directory claims ten bytes, and it unpacks to seven thousand: made to fill a phone. */
test('a member that unpacks to more than it claims is not read to its end', async () => {
  const zip = zipBy(`${ORDINARY}
data = bytearray(open("a.zip", "rb").read())
at = data.index(b"PK\\x01\\x02", data.index(b"PK\\x01\\x02") + 4)
struct.pack_into("<I", data, at + 24, 10)
open("a.zip", "wb").write(data)`);
  const opened = await openZip({ file: new File([zip], 'a.zip'), path: 'a.zip' });
  const member = 'members' in opened ? opened.members[0] : undefined;
  if (member === undefined || 'problem' in member) throw new Error('it was not opened');
  let seen = 0;
  const reading = async (): Promise<void> => {
    for await (const piece of member.pieces()) seen += piece.length;
  };

  await expect(reading()).rejects.toMatchObject({ name: 'NotReadableError' });
  expect(seen).toBeLessThan(7000);
});

const BROKEN: readonly (readonly [string, string])[] = [
  [
    'zip-encrypted',
    `${ORDINARY}
data = bytearray(open("a.zip", "rb").read())
at = data.index(b"PK\\x01\\x02", data.index(b"PK\\x01\\x02") + 4)
data[at + 8] |= 1
open("a.zip", "wb").write(data)`,
  ],
  ['zip-climbs-out', `zipfile.ZipFile("a.zip", "w").writestr("../up", b"x")`],
  ['empty-archive', `zipfile.ZipFile("a.zip", "w").close()`],
  [
    'zip-too-large',
    `
z = zipfile.ZipFile("a.zip", "w")
for n in range(20001): z.writestr(str(n), b"")
z.close()`,
  ],
  ['zip-damaged', `${ORDINARY}\ndata = open("a.zip", "rb").read()\nopen("a.zip", "wb").write(data[:200])`],
  [
    'zip-overlaps',
    `${ORDINARY}
data = bytearray(open("a.zip", "rb").read())
first = data.index(b"PK\\x01\\x02"); second = data.index(b"PK\\x01\\x02", first + 4)
third = data.index(b"PK\\x01\\x02", second + 4)
data[third + 42:third + 46] = data[second + 42:second + 46]
open("a.zip", "wb").write(data)`,
  ],
];

test.each(BROKEN)('%s is said before anything is unpacked', (code, lines) => {
  expect(() => read(zipBy(lines))).toThrow(new BadZip(code as BadZip['code']));
});
