/** The camera's picture, until it has seen an enrolment code. */

import { useEffect, useRef, useState } from 'react';
import { scannedCode } from '../domain/codes';
import { scan } from '../engine/scanner';
import { useApp } from '../state/store';
import { Button, Note } from './parts';

export function Scanner(props: { readonly found: (code: string) => void; readonly cancel: () => void }) {
  const { t } = useApp((state) => state.language);
  const video = useRef<HTMLVideoElement>(null);
  const found = useRef(props.found);
  const [refused, setRefused] = useState(false);
  useEffect(() => {
    const ending = new AbortController();
    if (video.current !== null) {
      scan(video.current, scannedCode, ending.signal)
        .then((code) => code !== null && found.current(code))
        .catch(() => setRefused(true));
    }
    return () => ending.abort();
  }, []);
  if (refused) {
    return (
      <Note tone="quiet" icon="camera">
        <p>{t('scan.refused')}</p>
      </Note>
    );
  }
  return (
    <div className="space-y-2">
      <video
        ref={video}
        muted
        playsInline
        aria-label={t('scan.label')}
        className="mx-auto aspect-square w-full max-w-80 rounded-2xl bg-sunken object-cover"
      />
      <p className="text-muted text-sm">{t('scan.text')}</p>
      <Button look="plain" wide onClick={props.cancel}>
        {t('scan.cancel')}
      </Button>
    </div>
  );
}
