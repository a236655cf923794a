/** Read what a file is, by its content: names and endings lie. The only module that knows dicom-parser. */

import dicomParser from 'dicom-parser';
import type { Reading, SkipReason } from '../domain/detection';
import { decodeText } from './charsets';

/** Most headers end within the first piece; a long private block or overlay may need more. */
const PIECES = [128 * 1024, 2 * 1024 * 1024, 32 * 1024 * 1024];
const PIXEL_DATA = 'x7fe00010';
const DICOMDIR = '1.2.840.10008.1.3.10';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';

const MAGIC: readonly (readonly [readonly number[], SkipReason])[] = [
  [[0xff, 0xd8, 0xff], 'picture'],
  [[0x89, 0x50, 0x4e, 0x47], 'picture'],
  [[0x25, 0x50, 0x44, 0x46], 'pdf'],
  [[0x50, 0x4b, 0x03, 0x04], 'archive'],
];

/** Return what the file is; never throws for what it holds. */
export async function readFile(file: Blob): Promise<Reading> {
  if (file.size === 0) return skipped('empty');
  try {
    const start = new Uint8Array(await file.slice(0, 132).arrayBuffer());
    if (String.fromCharCode(...start.subarray(128, 132)) !== 'DICM') return skipped(otherKind(start));
    return await readHeader(file);
  } catch {
    // A scratched CD or a stick that was pulled out.
    return skipped('unreadable');
  }
}

const skipped = (reason: SkipReason): Reading => ({ kind: 'skipped', reason });

function otherKind(start: Uint8Array): SkipReason {
  return MAGIC.find(([magic]) => magic.every((byte, at) => start[at] === byte))?.[1] ?? 'not-dicom';
}

async function readHeader(file: Blob): Promise<Reading> {
  for (const size of PIECES) {
    const reading = interpret(await parse(new Uint8Array(await file.slice(0, size).arrayBuffer())));
    if (reading !== null) return reading;
    if (size >= file.size) break;
  }
  return skipped('incomplete');
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
  if (data.string('x00020002') === DICOMDIR) return skipped('index');
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
