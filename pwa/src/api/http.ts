/** Requests to the node and what may go wrong with them. */

import { baseNow, doubt, meet } from './near';
import type { Health, Problem } from './types';

/** The node was not reached, or something between here and there answered in its place. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable';
}

/** The node answered that it will not. `code` is stable (RFC 9457 problem, member `code`). */
export class Refused extends Error {
  override readonly name = 'Refused';

  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
  ) {
    super(`${status} ${code}`);
  }
}

/** The node no longer takes this device's word: a person must enrol it again. */
export class LockedOut extends Error {
  override readonly name = 'LockedOut';
}

/** Another mesh answers at this address: what lies here is not for it. */
export class OtherMesh extends Error {
  override readonly name = 'OtherMesh';
}

/** A small question must be answered within this; a clinic's Wi-Fi may need a few seconds. */
const SHORT_MS = 20_000;
/** Statuses of gateways in front of a node that is not there. */
const GATEWAY = new Set([502, 503, 504]);

/** Ask the node that is near. Throws `Unreachable` when there is no answer of its own, never for a status. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const base = baseNow();
  try {
    return await askAt(base, path, init);
  } catch (error) {
    doubt(base);
    throw error;
  }
}

async function askAt(base: string, path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(base + path, {
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(SHORT_MS),
      ...init,
    });
  } catch {
    throw new Unreachable();
  }
  if (GATEWAY.has(response.status) && !isProblem(response)) throw new Unreachable();
  return response;
}

/** Return the response when it is a success; throw `Refused` with the node's reason otherwise. */
export async function accepted(response: Response): Promise<Response> {
  if (response.ok) return response;
  const problem = await readProblem(response);
  throw new Refused(response.status, problem.code, problem.detail);
}

async function readProblem(response: Response): Promise<Problem> {
  const unnamed = { status: response.status, code: `http-${response.status}`, detail: '' };
  if (!isProblem(response)) return unnamed;
  try {
    return { ...unnamed, ...((await response.json()) as Partial<Problem>) };
  } catch {
    return unnamed;
  }
}

function isProblem(response: Response): boolean {
  return response.headers.get('content-type')?.startsWith('application/problem+json') ?? false;
}

/** Return the answer's JSON; a line that breaks in its middle is an unreachable node. */
export async function json<T>(response: Response): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch {
    throw new Unreachable();
  }
}

/** Ask which node is there, and what its time is: what follows goes to that one. `navigator.onLine` knows neither. */
export async function readHealth(timeoutMs = 3000): Promise<Health> {
  return meet(async (base) => {
    const response = await askAt(base, '/healthz', { signal: AbortSignal.timeout(timeoutMs) });
    if (!response.ok) throw new Unreachable();
    return json<Health>(response);
  });
}
