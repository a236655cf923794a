/** The small parts that all screens are made of. Every target is at least 48 pixels high. */

import type { ComponentProps, ReactNode } from 'react';
import { useEffect, useRef } from 'react';
import { percent } from '../domain/units';
import { useApp } from '../state/store';
import { Icon, type IconName } from './icons';

const LOOKS = {
  primary: 'bg-brand text-on-brand hover:bg-brand-strong shadow-card',
  secondary: 'border border-line bg-surface text-ink hover:bg-sunken',
  plain: 'text-brand hover:bg-brand-soft',
  danger: 'bg-act text-surface hover:opacity-90',
} as const;

type ButtonProps = ComponentProps<'button'> & {
  readonly look?: keyof typeof LOOKS;
  readonly icon?: IconName;
  readonly wide?: boolean;
};

export function Button({ look = 'secondary', icon, wide, className = '', children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={`inline-flex min-h-12 cursor-pointer items-center justify-center gap-2.5 rounded-xl px-5 py-3 font-semibold transition-colors disabled:cursor-default disabled:opacity-60 ${wide ? 'w-full' : ''} ${LOOKS[look]} ${className}`}
      {...rest}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** The heading of a screen takes the focus when the screen appears, so that readers begin there. */
export function Title({
  children,
  hidden = false,
}: {
  readonly children: ReactNode;
  readonly hidden?: boolean;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <h1
      ref={heading}
      tabIndex={-1}
      className={
        hidden ? 'sr-only' : 'text-balance font-bold text-2xl leading-tight tracking-tight sm:text-3xl'
      }
    >
      {children}
    </h1>
  );
}

export function Card({
  children,
  className = '',
}: {
  readonly children: ReactNode;
  readonly className?: string;
}) {
  return (
    <div className={`rounded-2xl border border-line bg-surface shadow-card ${className}`}>{children}</div>
  );
}

/** A field to type in or to choose from. */
export const FIELD = 'min-h-12 w-full rounded-xl border border-edge bg-ground px-4 py-2 text-base';

const NOTES = {
  quiet: { box: 'bg-sunken text-ink', icon: 'text-muted' },
  urgent: { box: 'bg-urgent-soft text-ink', icon: 'text-urgent' },
  act: { box: 'bg-act-soft text-ink', icon: 'text-act' },
} as const;

/** What happened, whether the data is safe, what to do. Red (`act`) only where a person must act. */
export function Note(props: {
  readonly tone: keyof typeof NOTES;
  readonly icon: IconName;
  readonly title?: string;
  readonly children?: ReactNode;
  readonly action?: ReactNode;
}) {
  const look = NOTES[props.tone];
  return (
    <div
      role={props.tone === 'act' ? 'alert' : 'status'}
      className={`flex gap-3 rounded-2xl p-4 ${look.box}`}
    >
      <Icon name={props.icon} className={`mt-px size-6 ${look.icon}`} />
      <div className="min-w-0 flex-1 space-y-1">
        {props.title && <p className="font-semibold">{props.title}</p>}
        {props.children}
        {props.action && <div className="flex flex-wrap gap-2 pt-2">{props.action}</div>}
      </div>
    </div>
  );
}

/** A bar with its share in words. Readers hear every tenth percent, not each one. */
export function Bar(props: { readonly label: string; readonly done: number; readonly total: number }) {
  const { percent: say } = useApp((state) => state.language);
  const whole = percent(props.done, props.total);
  return (
    <div className="flex items-center gap-3">
      <progress aria-label={props.label} max={100} value={whole} />
      <span className="w-12 shrink-0 text-end font-medium text-muted text-sm tabular-nums" aria-hidden="true">
        {say(whole)}
      </span>
      <span className="sr-only" aria-live="polite">
        {whole > 0 ? `${props.label} ${say(Math.floor(whole / 10) * 10)}` : ''}
      </span>
    </div>
  );
}

export function Page(props: { readonly children: ReactNode; readonly back?: string }) {
  const { t } = useApp((state) => state.language);
  return (
    <div className="mx-auto w-full max-w-xl space-y-4">
      {props.back !== undefined && (
        <a
          href={props.back}
          className="-mt-3 -ms-2 mb-1 inline-flex min-h-12 items-center gap-1 rounded-xl pe-3 ps-1 font-medium text-muted hover:text-ink"
        >
          <Icon name="back" className="size-5" />
          {t('app.back')}
        </a>
      )}
      {props.children}
    </div>
  );
}
