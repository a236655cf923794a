/**
 * What the node says and takes (docs/architecture.md §3).
 *
 * `openapi.ts` is made from the node's own contract by `python3 run.py`, so a change there that the app
 * does not know of fails the type check here. By hand stands only what the contract leaves open.
 */

import type { components } from './openapi';

type Schemas = components['schemas'];

export type Submission = Schemas['SubmissionView'];
export type SubmissionCreated = Schemas['NewSubmissionView'];
/** The app never says that several patients are one: `patients` stays 1. */
export type ConfirmedStudy = Readonly<Omit<Schemas['StudyConfirmation'], 'patients'>>;
type Said = Schemas['NewConfirmation'];
/** Members that the node fills in by itself may be left out. */
export type Confirmation = Readonly<Partial<Omit<Said, 'studies' | 'documents' | 'patient'>>> & {
  readonly studies: readonly ConfirmedStudy[];
  readonly documents?: readonly Readonly<Schemas['DocumentConfirmation']>[];
  readonly patient?: Partial<Schemas['TypedPatient']> | null;
};
export type Study = Schemas['Story'];
export type JourneyStep = Schemas['Step'];
export type DeviceEnrolled = Schemas['EnrolledDevice'];
export type DeviceCode = Schemas['DeviceCode'];
export type Decision = Pick<Schemas['NewDecision'], 'entry_id' | 'decision' | 'person'> &
  Partial<Schemas['NewDecision']>;
export type Because = Schemas['Because'];

export interface Health {
  readonly status: string;
  /** Unix seconds. */
  readonly time: number;
  readonly node: string;
  readonly mesh: string;
  readonly version: string;
  /** Its API under its own name; nodes of earlier versions do not tell. */
  readonly url?: string | null;
}

export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

/** RFC 6749 §5.1. */
export interface AccessToken {
  readonly access_token: string;
  readonly expires_in: number;
}

/** A study that needs a person, and why. `reasons` are known to the node that sent the study. */
export interface Troubled {
  readonly entry_id: string;
  readonly code: string;
  readonly troubles: readonly { readonly code: string; readonly instances: number; readonly since: number }[];
  readonly reasons?: readonly {
    readonly code: string;
    readonly detail: string;
    readonly instances: readonly number[];
  }[];
}

/** `GET /api/v1/status`, as far as the app shows it. */
export interface NodeStatus {
  readonly node: string;
  readonly label: string;
  readonly mesh: string;
  readonly version: string;
  readonly locked: boolean;
  readonly disk: { readonly free: number };
}
