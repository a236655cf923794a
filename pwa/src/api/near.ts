/**
 * Which node is talked to (docs/decisions/0022-one-origin-for-all-nodes.md).
 *
 * An app that came from the name that all nodes share asks there who is near, and then calls that node under
 * its own name: two requests to the shared name may reach two nodes, and a token is one node's. When that
 * node no longer answers, whichever answers for the shared name is taken in its place.
 */

import type { Health } from './types';

/** What is asked of a node: its answer to `/healthz` at this base, or an `Unreachable`. */
export type AskHealth = (base: string) => Promise<Health>;

/** Where the API is; empty for the page's own origin. */
let base = '';
/** The chosen node did not answer: who is near is asked before anything else is. */
let doubted = false;

/** Return what goes before the path of each request. */
export function baseNow(): string {
  return base;
}

/** Return whether the node that was chosen did not answer a request. */
export function isDoubted(): boolean {
  return doubted;
}

/** A request to `at` had no answer. */
export function doubt(at: string): void {
  if (at !== '' && at === base) doubted = true;
}

/** Ask the chosen node how it is; when it does not answer, choose among those that are near. */
export async function meet(askHealth: AskHealth): Promise<Health> {
  const before = base;
  const there = before === '' ? null : await askHealth(before).catch(() => null);
  if (there !== null) return chosen(before, there);
  const near = await askHealth('');
  const own = ownAddress(near.url ?? null, self.location);
  if (own === null || own === before) return chosen('', near);
  // Its own name may not be found from here: then the shared one has to do.
  const said = await askHealth(own).catch(() => null);
  return said !== null && said.mesh === near.mesh ? chosen(own, said) : chosen('', near);
}

function chosen(at: string, health: Health): Health {
  base = at;
  doubted = false;
  return health;
}

/**
 * Return the origin of a node's own address if it is a name under the page's own, else null.
 *
 * A token never goes elsewhere. Pages from `localhost`, an address, or a node's own name stay where they are.
 */
export function ownAddress(told: string | null, page: Pick<URL, 'hostname' | 'protocol'>): string | null {
  if (told === null || page.protocol !== 'https:' || !URL.canParse(told)) return null;
  const { protocol, hostname, origin } = new URL(told);
  return protocol === 'https:' && hostname.endsWith(`.${page.hostname}`) ? origin : null;
}
