/** Read what a file is, by its content: names and endings lie. The only module that knows dicom-parser. */

import dicomParser from 'dicom-parser';
import type { InstanceHeader, ListedImage, PictureKind, Reading, SkipReason } from '../domain/detection';
import { BARE_BYTES, BEGINNING_BYTES, beginningOf, frontOf, SEARCHED_BYTES } from '../domain/headless';
import { decodeText } from './charsets';
import { looksLikeZip, type Source } from './sources';

/** Most headers end within the first piece; a long private block or overlay may need more. */
const PIECES = [128 * 1024, 2 * 1024 * 1024, 32 * 1024 * 1024];
const PIXEL_DATA = 'x7fe00010';
const RECORDS = 'x00041220';
/** A table of contents is read whole; the largest that were seen have a few megabytes. */
const LARGEST_INDEX = 64 * 1024 * 1024;
const DICOMDIR = '1.2.840.10008.1.3.10';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const MOST_INFLATED = 1_000_000;
const INFLATE_STEP = 512;
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';

const PICTURES: readonly (readonly [readonly number[], PictureKind])[] = [
  [[0xff, 0xd8, 0xff], 'jpeg'],
  [[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], 'png'],
  [[0x25, 0x50, 0x44, 0x46, 0x2d], 'pdf'],
];
const beginsWith = (bytes: Uint8Array, magic: readonly number[]): boolean =>
  magic.every((byte, at) => bytes[at] === byte);

/** Return what the file is; never throws for what it holds. */
export async function readFile(source: Source): Promise<Reading> {
  if (source.size === 0) return skipped('empty');
  try {
    const start = await source.start(BEGINNING_BYTES);
    if (String.fromCharCode(...start.subarray(128, 132)) === 'DICM') return await readHeader(source, NOTHING);
    if (looksLikeZip(start)) return skipped('archive');
    const beginning = beginningOf(start);
    if (beginning === null) return otherKind(start);
    const front = frontOf(beginning, await source.start(SEARCHED_BYTES));
    return front === null ? skipped('incomplete') : await readHeader(source, front);
  } catch {
    // A scratched CD, a stick that was pulled out, a damaged ZIP.
    return skipped('unreadable');
  }
}

const skipped = (reason: SkipReason): Reading => ({ kind: 'skipped', reason });

function otherKind(start: Uint8Array): Reading {
  const as = PICTURES.find(([magic]) => beginsWith(start, magic))?.[1];
  return as === undefined ? skipped('not-dicom') : { kind: 'picture', as };
}

const NOTHING = new Uint8Array(0);

/** `front`: what has to stand in front of the file. */
async function readHeader(source: Source, front: Uint8Array): Promise<Reading> {
  for (const size of PIECES) {
    const { data, packed } = await parse(withFront(await source.start(size), front));
    if (data?.string('x00020002') === DICOMDIR) return readIndex(source, front);
    const header = interpret(data);
    if (data !== null && header !== null)
      return isUntold(data, front) || (!packed && (await isCutOff(source, data, front.length)))
        ? skipped('incomplete')
        : { kind: 'instance', header, front };
    if (size >= source.size) break;
  }
  return skipped('incomplete');
}

function withFront(bytes: Uint8Array, front: Uint8Array): Uint8Array {
  if (front.length === 0) return bytes;
  const whole = new Uint8Array(front.length + bytes.length);
  whole.set(front);
  whole.set(bytes, front.length);
  return whole;
}

/** Return whether nothing says how the pixels are compressed: the header that would is not the file's own. */
function isUntold(data: dicomParser.DataSet, front: Uint8Array): boolean {
  const pixels = data.elements[PIXEL_DATA];
  return front.length > BARE_BYTES && (pixels?.length === UNDEFINED_LENGTH || !!pixels?.hadUndefinedLength);
}

/** Return the images that a table of contents lists. Its records follow the tree, each study before its images. */
async function readIndex(source: Source, front: Uint8Array): Promise<Reading> {
  if (source.size > LARGEST_INDEX) return { kind: 'index', listed: [] };
  const bytes = withFront(await source.start(source.size), front);
  const records = tolerant(() => dicomParser.parseDicom(bytes))?.elements[RECORDS]?.items ?? [];
  const listed: ListedImage[] = [];
  let studyUid = '';
  for (const { dataSet } of records) {
    if (dataSet?.string('x00041430') === 'STUDY') studyUid = dataSet.string('x0020000d') ?? '';
    const instanceUid = dataSet?.string('x00041511');
    if (instanceUid) listed.push({ studyUid, instanceUid });
  }
  return { kind: 'index', listed };
}

const UNDEFINED_LENGTH = 0xffffffff;
const ITEM = 0xe000fffe;
/** Beyond so many frames their lengths are believed; the node walks them all. */
const FRAMES = 4000;

/** Return whether the pixels end after the file does: a copy that was interrupted. */
async function isCutOff(source: Source, data: dicomParser.DataSet, lacking: number): Promise<boolean> {
  const pixels = data.elements[PIXEL_DATA];
  if (pixels === undefined) return false;
  let at = pixels.dataOffset - lacking;
  if (pixels.length !== UNDEFINED_LENGTH && !pixels.hadUndefinedLength)
    return at + pixels.length > source.size;
  if (source.stretch === null) return false;
  for (let n = 0; n < FRAMES; n += 1) {
    if (at + 8 > source.size) return true;
    const head = new DataView((await source.stretch(at, at + 8)).buffer);
    if (head.getUint32(0, true) !== ITEM) return false;
    at += 8 + head.getUint32(4, true);
  }
  return false;
}

/** Where elements stand that were packed says nothing about the file. */
interface Parsed {
  readonly data: dicomParser.DataSet | null;
  readonly packed: boolean;
}

/** Return the elements up to the pixels, or as many as could be read. */
async function parse(bytes: Uint8Array): Promise<Parsed> {
  const meta = tolerant(() => dicomParser.readPart10Header(bytes));
  if (meta?.string('x00020010') === DEFLATED) return { data: await parseDeflated(bytes, meta), packed: true };
  return { data: tolerant(() => dicomParser.parseDicom(bytes, { untilTag: PIXEL_DATA })), packed: false };
}

/** dicom-parser throws what it could read together with the reason. */
function tolerant(work: () => dicomParser.DataSet): dicomParser.DataSet | null {
  try {
    return work();
  } catch (error) {
    return (error as { dataSet?: dicomParser.DataSet }).dataSet ?? null;
  }
}

async function parseDeflated(
  bytes: Uint8Array,
  meta: dicomParser.DataSet,
): Promise<dicomParser.DataSet | null> {
  const length = meta.elements.x00020000;
  const start = length && length.dataOffset + 4 + (meta.uint32('x00020000') ?? 0);
  if (start === undefined) return null;
  const whole = await inflated(bytes.subarray(start));
  return tolerant(() =>
    dicomParser.parseDicom(whole, { TransferSyntaxUID: EXPLICIT_LITTLE, untilTag: PIXEL_DATA }),
  );
}

/**
 * Return the beginning of what was packed, as far as it can be unpacked. Octets after the end, such as the
 * padding of PS3.5 §A.5, are an error to a browser, at which it drops what it has not handed over: so it is
 * given little at a time.
 */
async function inflated(packed: Uint8Array): Promise<Uint8Array> {
  const { readable, writable } = new DecompressionStream('deflate-raw');
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  const parts: Uint8Array[] = [];
  let size = 0;
  const read = async (): Promise<void> => {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      size += part.value.length;
    }
  };
  const reading = read().catch(() => {});
  try {
    for (let at = 0; at < packed.length && size < MOST_INFLATED; at += INFLATE_STEP)
      await writer.write(packed.slice(at, at + INFLATE_STEP));
    // What was unpacked last is still to be read.
    await new Promise((resolve) => setTimeout(resolve));
  } catch {
    // The end, or damage.
  }
  await writer.abort().catch(() => {});
  await reading;
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

/** Return what the elements say, or null when the essential ones are missing. */
function interpret(data: dicomParser.DataSet | null): InstanceHeader | null {
  if (data === null) return null;
  const studyUid = data.string('x0020000d');
  const instanceUid = data.string('x00080018');
  if (!studyUid || !instanceUid) return null;
  const charset = (data.string('x00080005') ?? '').split('\\');
  const text = (tag: string): string => {
    const element = data.elements[tag];
    if (element === undefined) return '';
    return decodeText(
      data.byteArray.subarray(element.dataOffset, element.dataOffset + element.length),
      charset,
    );
  };
  return {
    patient: {
      name: text('x00100010'),
      id: text('x00100020'),
      birthDate: data.string('x00100030') ?? '',
      sex: data.string('x00100040') ?? '',
    },
    studyUid,
    instanceUid,
    studyDate: data.string('x00080020') ?? '',
    modality: data.string('x00080060') ?? '',
    description: text('x00081030'),
  };
}
