/** Line drawings, in the colour of the text around them. They decorate: the words are beside them. */

const PATHS = {
  upload: ['M12 16V4', 'm6 9 6-6 6 6', 'M4 16v3a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-3'],
  disc: [
    'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z',
    'M12 9.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4Z',
    'M6.8 12A5.2 5.2 0 0 1 12 6.8',
    'M17.2 12a5.2 5.2 0 0 1-5.2 5.2',
  ],
  files: ['M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8Z', 'M14 3v5h5', 'M9 13h6', 'M9 17h4'],
  check: ['m5 12.5 4.5 4.5L19 7.5'],
  back: ['M15 5l-7 7 7 7'],
  next: ['m9 5 7 7-7 7'],
  phone: [
    'M8 2.5h8a1.5 1.5 0 0 1 1.5 1.5v16a1.5 1.5 0 0 1-1.5 1.5H8A1.5 1.5 0 0 1 6.5 20V4A1.5 1.5 0 0 1 8 2.5Z',
    'M11 18.5h2',
  ],
  clinic: ['M4.5 5h15v10.5h-15Z', 'M2.5 19h19', 'M9.5 15.5 9 19', 'm14.5 15.5.5 3.5'],
  carried: [
    'M2.5 6.5h11v10h-11Z',
    'M13.5 10h4l4 3.5v3h-8',
    'M7 14.8a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z',
    'M17.5 14.8a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z',
  ],
  cloud: [
    'M4.5 21V5.5A1.5 1.5 0 0 1 6 4h12a1.5 1.5 0 0 1 1.5 1.5V21',
    'M2.5 21h19',
    'M12 7.5v5',
    'M9.5 10h5',
    'M10 21v-4.5h4V21',
  ],
  pacs: ['M12 2.8 4.5 6v5.5c0 4.6 3.1 8 7.5 9.7 4.4-1.7 7.5-5.1 7.5-9.7V6Z', 'm8.7 12 2.4 2.4 4.4-4.6'],
  erased: ['M4.5 7h15', 'M9 7V4.5h6V7', 'm6.5 7 1 13h9l1-13', 'M10 11v5.5', 'M14 11v5.5'],
  alert: ['M12 3.5 2.5 20h19Z', 'M12 10v4.5', 'M12 17.3v.2'],
  camera: [
    'M4.5 7.5h3L9 5h6l1.5 2.5h3A1.5 1.5 0 0 1 21 9v9.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 18.5V9a1.5 1.5 0 0 1 1.5-1.5Z',
    'M12 10a3.6 3.6 0 1 0 0 7.2 3.6 3.6 0 0 0 0-7.2Z',
  ],
  install: ['M12 3.5V14', 'm8 10.5 4 4 4-4', 'M5 20h14'],
  help: [
    'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z',
    'M9.5 9.3a2.6 2.6 0 1 1 3.7 2.4c-.8.4-1.2.9-1.2 1.8',
    'M12 16.6v.2',
  ],
  settings: [
    'M4 7h9',
    'M17 7h3',
    'M4 17h3',
    'M11 17h9',
    'M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z',
    'M9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z',
  ],
  scan: [
    'M4 8V5.5A1.5 1.5 0 0 1 5.5 4H8',
    'M16 4h2.5A1.5 1.5 0 0 1 20 5.5V8',
    'M20 16v2.5a1.5 1.5 0 0 1-1.5 1.5H16',
    'M8 20H5.5A1.5 1.5 0 0 1 4 18.5V16',
    'M8.5 8.5h3v3h-3Z',
    'M14 14h1.5v1.5',
    'M14.5 8.5h1v1',
    'M8.5 14.5h1v1',
  ],
  away: [
    'm3 3 18 18',
    'M8.5 15.5a5 5 0 0 1 5.6-1',
    'M5 12a10 10 0 0 1 4.5-2.6',
    'M13.5 9.2A10 10 0 0 1 19 12',
    'M2 8.5A15 15 0 0 1 6 6',
    'M10.5 4.6A15 15 0 0 1 22 8.5',
    'M12 19v.1',
  ],
} as const;

export type IconName = keyof typeof PATHS;

/** Direction matters for these: they turn round in languages that run from right to left. */
const TURNING: readonly IconName[] = ['back', 'next', 'carried'];

export function Icon({
  name,
  className = 'size-6',
}: {
  readonly name: IconName;
  readonly className?: string;
}) {
  return (
    <svg
      viewBox="0 0 24 24"
      className={`shrink-0 ${className} ${TURNING.includes(name) ? 'rtl:-scale-x-100' : ''}`}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {PATHS[name].map((path) => (
        <path key={path} d={path} />
      ))}
    </svg>
  );
}

/** The mark of the app: three places, one way up. */
export function Mark() {
  return <img src="/icons/icon.svg" alt="" width="32" height="32" className="size-8 rounded-lg" />;
}
