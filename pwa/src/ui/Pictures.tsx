/** Photos and papers: which of them go, and what each one shows. */

import { useEffect, useState } from 'react';
import type { FoundPicture } from '../domain/detection';
import { firstUse, type PictureUse, USES } from '../domain/pictures';
import { useApp } from '../state/store';
import { Icon } from './icons';
import { FIELD } from './parts';

export type Uses = ReadonlyMap<number, PictureUse>;

/** A CD with a viewer has hundreds of small pictures; whoever wants those picks them as files. */
const SHOWN = 24;

export function Pictures(props: {
  readonly pictures: readonly FoundPicture[];
  readonly uses: Uses;
  readonly change: (uses: Uses) => void;
}) {
  const change = (index: number, use: PictureUse | null): void => {
    const next = new Map(props.uses);
    if (use === null) next.delete(index);
    else next.set(index, use);
    props.change(next);
  };
  return (
    <ul className="divide-y divide-line">
      {props.pictures.slice(0, SHOWN).map((picture) => (
        <li key={picture.index}>
          <PictureRow
            picture={picture}
            use={props.uses.get(picture.index) ?? null}
            change={(use) => change(picture.index, use)}
          />
        </li>
      ))}
    </ul>
  );
}

function PictureRow(props: {
  readonly picture: FoundPicture;
  readonly use: PictureUse | null;
  readonly change: (use: PictureUse | null) => void;
}) {
  const { t, size } = useApp((state) => state.language);
  const { picture, use, change } = props;
  return (
    <div className="space-y-2 py-3">
      <label className="flex min-h-14 cursor-pointer items-center gap-4">
        <input
          type="checkbox"
          autoComplete="off"
          checked={use !== null}
          onChange={(event) => change(event.target.checked ? firstUse(picture) : null)}
          className="size-6 shrink-0 accent-brand"
        />
        <Preview picture={picture} />
        <span className="min-w-0 flex-1">
          <span className="block break-words font-medium">
            <bdi>{picture.name}</bdi>
          </span>
          <span className="block text-muted text-sm">
            {t(picture.kind === 'pdf' ? 'pictures.pdf' : 'pictures.picture')} · {size(picture.size)}
          </span>
        </span>
      </label>
      {use !== null && use !== 'pdf' && (
        <select
          className={FIELD}
          aria-label={t('pictures.shows')}
          autoComplete="off"
          value={use}
          onChange={(event) => change(event.target.value as PictureUse)}
        >
          {USES.map((one) => (
            <option key={one} value={one}>
              {t(`pictures.${one}`)}
            </option>
          ))}
        </select>
      )}
    </div>
  );
}

/** A look at the picture, so that nobody sends the wrong one. */
function Preview({ picture }: { readonly picture: FoundPicture }) {
  const blob = useApp((state) => state.previews.get(picture.index));
  const [address, setAddress] = useState<string | null>(null);
  useEffect(() => {
    if (blob === undefined) return;
    const made = URL.createObjectURL(blob);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return (
    <span className="grid size-16 shrink-0 place-items-center overflow-hidden rounded-xl bg-sunken text-muted">
      {address === null ? (
        <Icon name="files" className="size-7" />
      ) : (
        <img src={address} alt="" className="size-full object-cover" />
      )}
    </span>
  );
}
