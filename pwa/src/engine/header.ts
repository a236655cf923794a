/** Read what a file is, by its content: names and endings lie. The only module that knows dicom-parser. */

import dicomParser from 'dicom-parser';
import type { ListedImage, PictureKind, Reading, SkipReason } from '../domain/detection';
import { decodeText } from './charsets';
import { looksLikeZip, type Source } from './sources';

/** Most headers end within the first piece; a long private block or overlay may need more. */
const PIECES = [128 * 1024, 2 * 1024 * 1024, 32 * 1024 * 1024];
const PIXEL_DATA = 'x7fe00010';
const RECORDS = 'x00041220';
const PREAMBLE = 132;
/** A table of contents is read whole; the largest that were seen have a few megabytes. */
const LARGEST_INDEX = 64 * 1024 * 1024;
const DICOMDIR = '1.2.840.10008.1.3.10';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';

const PICTURES: readonly (readonly [readonly number[], PictureKind])[] = [
  [[0xff, 0xd8, 0xff], 'jpeg'],
  [[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], 'png'],
  [[0x25, 0x50, 0x44, 0x46, 0x2d], 'pdf'],
];
/** File meta information without the preamble that belongs before it: its first element is (0002,0000) UL. */
const BARE = [0x02, 0x00, 0x00, 0x00, 0x55, 0x4c];

const beginsWith = (bytes: Uint8Array, magic: readonly number[]): boolean =>
  magic.every((byte, at) => bytes[at] === byte);

/** Return what the file is; never throws for what it holds. */
export async function readFile(source: Source): Promise<Reading> {
  if (source.size === 0) return skipped('empty');
  try {
    const start = await source.start(PREAMBLE);
    if (String.fromCharCode(...start.subarray(128, 132)) === 'DICM') return await readHeader(source, 0);
    if (beginsWith(start, BARE)) return await readHeader(source, PREAMBLE);
    return otherKind(start);
  } catch {
    // A scratched CD, a stick that was pulled out, a damaged ZIP.
    return skipped('unreadable');
  }
}

const skipped = (reason: SkipReason): Reading => ({ kind: 'skipped', reason });

function otherKind(start: Uint8Array): Reading {
  if (looksLikeZip(start)) return skipped('archive');
  const as = PICTURES.find(([magic]) => beginsWith(start, magic))?.[1];
  return as === undefined ? skipped('not-dicom') : { kind: 'picture', as };
}

/** `lacking`: how many bytes of the preamble are not there. */
async function readHeader(source: Source, lacking: number): Promise<Reading> {
  for (const size of PIECES) {
    const data = await parse(withPreamble(await source.start(size), lacking));
    if (data?.string('x00020002') === DICOMDIR) return readIndex(source, lacking);
    const reading = interpret(data);
    if (reading !== null)
      return data !== null && (await isCutOff(source, data, lacking)) ? skipped('incomplete') : reading;
    if (size >= source.size) break;
  }
  return skipped('incomplete');
}

function withPreamble(bytes: Uint8Array, lacking: number): Uint8Array {
  if (lacking === 0) return bytes;
  const whole = new Uint8Array(lacking + bytes.length);
  whole.set([0x44, 0x49, 0x43, 0x4d], 128);
  whole.set(bytes, lacking);
  return whole;
}

/** Return the images that a table of contents lists. Its records follow the tree, each study before its images. */
async function readIndex(source: Source, lacking: number): Promise<Reading> {
  if (source.size > LARGEST_INDEX) return { kind: 'index', listed: [] };
  const bytes = withPreamble(await source.start(source.size), lacking);
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
  if (pixels === undefined || data.string('x00020010') === DEFLATED) return false;
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

/** Return the elements up to the pixels, or as many as could be read. */
async function parse(bytes: Uint8Array): Promise<dicomParser.DataSet | null> {
  const meta = tolerant(() => dicomParser.parseDicom(bytes, { untilTag: 'x0002ffff' }));
  if (meta?.string('x00020010') === DEFLATED) return parseDeflated(bytes, meta);
  return tolerant(() => dicomParser.parseDicom(bytes, { untilTag: PIXEL_DATA }));
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
  const stream = new Blob([bytes.slice(start)]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  const inflated: Uint8Array[] = [];
  let size = 0;
  try {
    const reader = stream.getReader();
    for (let piece = await reader.read(); !piece.done && size < 1_000_000; piece = await reader.read()) {
      inflated.push(piece.value);
      size += piece.value.length;
    }
  } catch {
    // The stream is cut where our piece of the file ends.
  }
  const whole = new Uint8Array(await new Blob(inflated as BlobPart[]).arrayBuffer());
  return tolerant(() =>
    dicomParser.parseDicom(whole, { TransferSyntaxUID: EXPLICIT_LITTLE, untilTag: PIXEL_DATA }),
  );
}

/** Return what the elements say, or null when the essential ones are missing. */
function interpret(data: dicomParser.DataSet | null): Reading | null {
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
    kind: 'instance',
    header: {
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
    },
  };
}
