/** Which PACS a study goes to, when the mesh knows several. */

/** A PACS that the mesh knows; one with rules takes the studies that they fit. */
export interface Destination {
  readonly name: string;
  readonly modalities: readonly string[];
  readonly origins: readonly string[];
}

/** Nobody names one: the rules of the mesh decide. */
export const BY_RULES = '';

/** What a person may choose at the confirmation; nothing when there is nothing to choose. */
export interface Choice {
  readonly names: readonly string[];
  /** Whether the mesh can decide by itself. */
  readonly byRules: boolean;
  /** What stands there first; null when a person must say. */
  readonly first: string | null;
}

/**
 * Return what is offered.
 *
 * Rules were made by who looks after the mesh, so they come first. Without any, what was chosen on this device
 * the last time does; the first time nothing stands there, since a guess may be the wrong hospital.
 */
export function offered(known: readonly Destination[], last: string | null): Choice | null {
  if (known.length < 2) return null;
  const names = known.map(({ name }) => name).sort((a, b) => a.localeCompare(b));
  const byRules = known.some(({ modalities, origins }) => modalities.length > 0 || origins.length > 0);
  if (byRules) return { names, byRules, first: BY_RULES };
  return { names, byRules, first: last !== null && names.includes(last) ? last : null };
}
