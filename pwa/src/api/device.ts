/**
 * This device's key: it proves to the node who asks.
 *
 * The private half cannot be read by scripts, ours included (`extractable: false`), and stays valid
 * until the node takes the device away, so that an upload goes on hours later with nobody there.
 */

import type { Health } from './types';

export interface Device {
  readonly deviceId: string;
  readonly role: string;
  readonly label: string;
  /** The mesh that it belongs to; devices of the first version do not know it. */
  readonly mesh?: string;
  readonly keys: CryptoKeyPair;
}

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' };
/** The node takes at most five minutes. */
const ASSERTION_S = 240;

export async function newKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(CURVE, false, ['sign', 'verify']);
}

/** Return the public half for the node, as a JWK (RFC 7517) with nothing but the point. */
export async function publicJwk(keys: CryptoKeyPair): Promise<JsonWebKey> {
  const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', keys.publicKey);
  return { kty, crv, x, y } as JsonWebKey;
}

/** Return a signed assertion (RFC 7523 §3) by the node's clock: this device's may be years off. */
export async function assertion(device: Device, health: Health): Promise<string> {
  const now = Math.floor(health.time);
  const claims = {
    iss: device.deviceId,
    sub: device.deviceId,
    aud: `clinicmesh:${health.mesh}`,
    iat: now,
    exp: now + ASSERTION_S,
    jti: crypto.randomUUID(),
  };
  const text = `${part({ alg: 'ES256', typ: 'JWT' })}.${part(claims)}`;
  const signature = await crypto.subtle.sign(
    { name: 'ECDSA', hash: 'SHA-256' },
    device.keys.privateKey,
    new TextEncoder().encode(text),
  );
  return `${text}.${base64url(new Uint8Array(signature))}`;
}

function part(value: object): string {
  return base64url(new TextEncoder().encode(JSON.stringify(value)));
}

function base64url(bytes: Uint8Array): string {
  return base64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
