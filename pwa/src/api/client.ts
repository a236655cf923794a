/** The people's API as functions. Works in a page and in a service worker. */

import type { Destination } from '../domain/destinations';
import { assertion, type Device, publicJwk } from './device';
import { accepted, ask, json, LockedOut, OtherMesh, readHealth } from './http';
import { baseNow, isDoubted } from './near';
import type {
  AccessToken,
  Because,
  Confirmation,
  Decision,
  DeviceCode,
  DeviceEnrolled,
  NodeStatus,
  Study,
  Submission,
  SubmissionCreated,
  Troubled,
} from './types';

/** The token is renewed this long before its end, so that it does not end on the way. */
const SPARE_S = 60;
/** What the token endpoint answers to a device that it does not know (RFC 6749 §5.2), or knows no more. */
const NOT_KNOWN = new Set([400, 401, 403]);

/** What each role may ask for (docs/architecture.md §3). */
const SCOPES: Readonly<Record<string, string>> = {
  lead: 'upload status enrol',
  admin: 'upload status enrol admin',
};
const CLINICIAN = 'upload status';

export interface Client {
  /** Ask with the device's token; a token that the node no longer takes is renewed once. */
  ask(path: string, init?: RequestInit): Promise<Response>;
  announce(clientId: string, kind: 'file' | 'zip'): Promise<SubmissionCreated>;
  confirm(submission: string, body: Confirmation): Promise<void>;
  submission(id: string): Promise<Submission>;
  remove(id: string): Promise<void>;
  study(entry: string): Promise<Study>;
  status(): Promise<NodeStatus>;
  troubles(): Promise<readonly Troubled[]>;
  destinations(): Promise<readonly Destination[]>;
  decide(decision: Decision): Promise<void>;
  withdraw(entry: string, because: Because): Promise<void>;
  newDeviceCode(): Promise<DeviceCode>;
}

let shared: { readonly deviceId: string; readonly client: Client } | null = null;

/** Return the client of this device; it is kept, so that its token serves until it ends. */
export function clientOf(device: Device): Client {
  if (shared?.deviceId !== device.deviceId) shared = { deviceId: device.deviceId, client: newClient(device) };
  return shared.client;
}

function newClient(device: Device): Client {
  let held: { readonly token: string; readonly until: number; readonly base: string } | null = null;

  async function grant(): Promise<Response> {
    const health = await readHealth();
    if (device.mesh !== undefined && health.mesh !== device.mesh) throw new OtherMesh();
    const body = new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion: await assertion(device, health),
      scope: SCOPES[device.role] ?? CLINICIAN,
    });
    return ask('/oauth/token', { method: 'POST', body });
  }

  async function bearer(): Promise<string> {
    if (isDoubted()) await readHealth();
    // A token is of one node: another one is asked for its own.
    if (held !== null && held.base === baseNow() && performance.now() < held.until) return held.token;
    const asked = performance.now();
    let response = await grant();
    // A node that has just started takes no assertion from before: one more is from after.
    if (NOT_KNOWN.has(response.status)) response = await grant();
    if (NOT_KNOWN.has(response.status)) throw new LockedOut();
    const answer = await json<AccessToken>(await accepted(response));
    const until = asked + 1000 * Math.max(0, answer.expires_in - SPARE_S);
    held = { token: answer.access_token, until, base: baseNow() };
    return held.token;
  }

  async function withToken(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set('Authorization', `Bearer ${await bearer()}`);
    const response = await ask(path, { ...init, headers });
    if (response.status !== 401) return response;
    held = null;
    headers.set('Authorization', `Bearer ${await bearer()}`);
    const second = await ask(path, { ...init, headers });
    if (second.status === 401) throw new LockedOut();
    return second;
  }

  const post = (path: string, body: object): Promise<Response> =>
    withToken(path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json' },
    });

  const get = async <T>(path: string): Promise<T> => json(await accepted(await withToken(path)));

  return {
    ask: withToken,
    announce: async (clientId, kind) =>
      json(await accepted(await post('/api/v1/submissions', { client_id: clientId, kind }))),
    confirm: async (submission, body) => {
      await accepted(await post(`/api/v1/submissions/${submission}/confirm`, body));
    },
    submission: (id) => get(`/api/v1/submissions/${id}`),
    remove: async (id) => {
      const response = await withToken(`/api/v1/submissions/${id}`, { method: 'DELETE' });
      if (response.status !== 404) await accepted(response);
    },
    study: (entry) => get(`/api/v1/studies/${entry}`),
    status: () => get('/api/v1/status'),
    troubles: async () => (await get<{ troubles: readonly Troubled[] }>('/api/v1/troubles')).troubles,
    destinations: async () =>
      (await get<{ destinations: readonly Destination[] }>('/api/v1/destinations')).destinations,
    decide: async (decision) => {
      await accepted(await post('/api/v1/admin/decisions', decision));
    },
    withdraw: async (entry, because) => {
      await accepted(await post(`/api/v1/studies/${entry}/withdraw`, because));
    },
    newDeviceCode: async () =>
      json(await accepted(await post('/api/v1/admin/device-codes', { role: 'clinician' }))),
  };
}

/** Give the node this device's public key against a one-time code. Throws `Refused`, `Unreachable`. */
export async function enrol(code: string, label: string, keys: CryptoKeyPair): Promise<Device> {
  const { mesh } = await readHealth();
  const body = JSON.stringify({ code, label, key: await publicJwk(keys) });
  const response = await ask('/api/v1/devices', {
    method: 'POST',
    body,
    headers: { 'Content-Type': 'application/json' },
  });
  const enrolled = await json<DeviceEnrolled>(await accepted(response));
  return { deviceId: enrolled.device_id, role: enrolled.role, label, mesh, keys };
}
