/** What the node says and takes (docs/architecture.md §3). */

export interface Health {
  readonly status: string;
  /** Unix seconds. */
  readonly time: number;
  readonly node: string;
  readonly mesh: string;
  readonly version: string;
}

export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

export type SubmissionState =
  | 'waiting'
  | 'received'
  | 'examined'
  | 'confirmed'
  | 'differs'
  | 'kept'
  | 'failed'
  | 'removed';

export interface SubmissionCreated {
  readonly id: string;
  readonly upload_url: string;
  readonly state: SubmissionState;
}

export interface Submission {
  readonly id: string;
  readonly client_id: string;
  readonly state: SubmissionState;
  readonly kind: 'file' | 'zip';
  readonly bytes: number;
  readonly length: number | null;
  readonly entries: readonly string[];
  readonly problem: { readonly code: string; readonly detail: string } | null;
}

export interface Confirmation {
  readonly studies: readonly ConfirmedStudy[];
  readonly impression: string;
  readonly priority: 'routine' | 'urgent';
  readonly destination: string | null;
}

export interface ConfirmedStudy {
  readonly study_uid: string;
  readonly digest: string;
  readonly instances: number;
}

export interface JourneyStep {
  readonly step: 'phone' | 'clinic' | 'carried' | 'cloud' | 'pacs' | 'erased';
  readonly done: boolean;
  readonly at: number | null;
  readonly by: string | null;
  readonly detail: string | null;
}

export interface Study {
  readonly entry_id: string;
  readonly code: string;
  readonly state: string;
  readonly copies: number;
  readonly journey: readonly JourneyStep[];
  readonly trouble: { readonly code: string; readonly detail: string } | null;
}

export interface DeviceEnrolled {
  readonly device_id: string;
  readonly role: string;
}

export interface AccessToken {
  readonly access_token: string;
  readonly expires_in: number;
}
