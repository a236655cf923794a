/** Trusted Types: the only scripts ever started are our own worker files, from where the app came from. */

interface Policy {
  createScriptURL(url: string): string;
}

interface TrustedTypes {
  createPolicy(name: string, rules: Policy): Policy;
}

function own(url: string): string {
  if (new URL(url, location.href).origin !== location.origin) throw new TypeError('a script from elsewhere');
  return url;
}

const factory = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
const policy = factory?.createPolicy('clinicmesh', { createScriptURL: own });

/** Return the address as the browser wants it for a worker. Throws TypeError for another origin. */
export function scriptUrl(url: string): string {
  return policy ? policy.createScriptURL(url) : own(url);
}
