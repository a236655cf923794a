/** Text of DICOM elements: Specific Character Set (0008,0005), PS3.3 §C.12.1.1.2, to what TextDecoder knows. */

/** Defined terms to encodings of the WHATWG standard. Windows-1252 and 874 hold all of ISO-8859-1 and -11. */
const ENCODINGS: Readonly<Record<string, string>> = {
  '': 'windows-1252',
  'ISO_IR 6': 'windows-1252',
  'ISO_IR 100': 'windows-1252',
  'ISO_IR 101': 'iso-8859-2',
  'ISO_IR 109': 'iso-8859-3',
  'ISO_IR 110': 'iso-8859-4',
  'ISO_IR 144': 'iso-8859-5',
  'ISO_IR 127': 'iso-8859-6',
  'ISO_IR 126': 'iso-8859-7',
  'ISO_IR 138': 'iso-8859-8',
  'ISO_IR 148': 'windows-1254',
  'ISO_IR 203': 'iso-8859-15',
  'ISO_IR 13': 'shift_jis',
  'ISO_IR 166': 'windows-874',
  'ISO_IR 192': 'utf-8',
  GB18030: 'gb18030',
  GBK: 'gbk',
};

type Decode = (bytes: Uint8Array) => string;

const by =
  (encoding: string): Decode =>
  (bytes) =>
    new TextDecoder(encoding).decode(bytes);

/** Double-byte sets of 7-bit codes, read by the encoding that has them with the high bit set. */
const HIGH = (encoding: string): Decode => {
  return (bytes) => by(encoding)(bytes.map((byte) => (byte > 0x20 ? byte | 0x80 : byte)));
};

/** JIS X 0212 is the third code set of EUC-JP, each character led by 8F. */
const JIS_0212: Decode = (bytes) => {
  const led: number[] = [];
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    led.push(0x8f, (bytes[at] as number) | 0x80, (bytes[at + 1] as number) | 0x80);
  }
  return by('euc-jp')(new Uint8Array(led));
};

/** Escape sequences without their ESC (PS3.3 tables C.12-3 and C.12-4). */
const ESCAPES: readonly (readonly [string, Decode])[] = [
  ['$)C', by('euc-kr')],
  ['$)A', by('gb18030')],
  ['$(D', JIS_0212],
  ['$B', HIGH('euc-jp')],
  ['$@', HIGH('euc-jp')],
  ['(B', by('windows-1252')],
  ['(J', by('shift_jis')],
  [')I', by('shift_jis')],
  ['-A', by('windows-1252')],
  ['-B', by('iso-8859-2')],
  ['-C', by('iso-8859-3')],
  ['-D', by('iso-8859-4')],
  ['-L', by('iso-8859-5')],
  ['-G', by('iso-8859-6')],
  ['-F', by('iso-8859-7')],
  ['-H', by('iso-8859-8')],
  ['-M', by('windows-1254')],
  ['-b', by('iso-8859-15')],
  ['-T', by('windows-874')],
];

const ESC = 0x1b;

/** Return the text of an element. `charset`: the values of (0008,0005), the first one holds at the start. */
export function decodeText(bytes: Uint8Array, charset: readonly string[]): string {
  const first = (charset[0] ?? '').trim().replace('ISO 2022 IR', 'ISO_IR');
  const initial = by(ENCODINGS[first] ?? 'windows-1252');
  const at = bytes.indexOf(ESC);
  const text =
    at === -1 ? initial(bytes) : initial(bytes.subarray(0, at)) + decodeEscaped(bytes.subarray(at));
  // Padding: a NUL or spaces at the end.
  return text.replace(/[\0 ]+$/, '').trim();
}

/** `bytes` begins with an escape sequence; each one holds until the next. */
function decodeEscaped(bytes: Uint8Array): string {
  const next = bytes.indexOf(ESC, 1);
  const part = next === -1 ? bytes : bytes.subarray(0, next);
  const sign = String.fromCharCode(...part.subarray(1, 4));
  const [sequence, decode] = ESCAPES.find(([start]) => sign.startsWith(start)) ?? ['', by('windows-1252')];
  const text = decode(part.subarray(1 + sequence.length));
  return next === -1 ? text : text + decodeEscaped(bytes.subarray(next));
}
