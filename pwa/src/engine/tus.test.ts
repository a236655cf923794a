import { createHash } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { Refused, Unreachable } from '../api/http';
import { type Transfer, transfer } from './tus';

beforeAll(() => {
  Object.assign(globalThis, { self: { location: new URL('https://clinic.test:8443/') } });
});

const MIB = 1024 * 1024;

/** A small real server of tus as far as a client sees it; `before` may fail a request in its place. */
class Server {
  data = new Uint8Array(0);
  length: number | null = null;
  readonly requests: string[] = [];
  readonly bodies: unknown[] = [];
  before: (method: string, count: number) => Response | undefined = () => undefined;

  ask = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const method = init.method ?? 'GET';
    const headers = new Headers(init.headers);
    this.requests.push(`${method} ${path}`);
    const instead = this.before(method, this.requests.length);
    if (instead) return instead;
    if (method === 'POST') {
      this.length = Number(headers.get('Upload-Length'));
      return new Response(null, {
        status: 201,
        headers: { Location: 'https://clinic.test:8443/api/v1/uploads/u1' },
      });
    }
    if (this.length === null) return new Response(null, { status: 404 });
    if (method === 'PATCH') {
      this.bodies.push(init.body);
      const piece = new Uint8Array(await (init.body as Blob).arrayBuffer());
      const digest = createHash('sha256').update(piece).digest('base64');
      if (headers.get('Upload-Checksum') !== `sha256 ${digest}`) return new Response(null, { status: 460 });
      if (Number(headers.get('Upload-Offset')) !== this.data.length)
        return new Response(null, { status: 409 });
      this.data = new Uint8Array(Buffer.concat([this.data, piece]));
    }
    return new Response(null, {
      status: method === 'HEAD' ? 200 : 204,
      headers: { 'Upload-Offset': `${this.data.length}` },
    });
  };
}

const CONTENT = new Uint8Array(9 * MIB + 5).map((_, n) => (n * 7) % 253);

function job(server: Server, more: Partial<Transfer> = {}): Transfer {
  return {
    ask: server.ask,
    uploads: 'https://clinic.test:8443/api/v1/uploads',
    upload: null,
    file: new File([CONTENT], 'x'),
    metadata: { submission: 's1' },
    created: async () => {},
    progress: () => {},
    signal: new AbortController().signal,
    ...more,
  };
}

/** Slices of a File are streamed by the browser; copies in memory took seven times as long. */
test('a file goes in slices, never in copies', async () => {
  const server = new Server();
  const created: string[] = [];

  await transfer(job(server, { created: async (upload) => void created.push(upload) }));

  expect(Buffer.compare(server.data, CONTENT)).toBe(0);
  expect(server.requests).toEqual(['POST /api/v1/uploads', ...Array(3).fill('PATCH /api/v1/uploads/u1')]);
  expect(created).toEqual(['/api/v1/uploads/u1']);
  expect(server.bodies.every((body) => body instanceof Blob)).toBe(true);
});

test('an upload goes on from what the node has', async () => {
  const server = new Server();
  server.length = CONTENT.length;
  server.data = CONTENT.slice(0, 5 * MIB);
  const shares: number[] = [];

  await transfer(job(server, { upload: '/api/v1/uploads/u1', progress: (sent) => shares.push(sent) }));

  expect(Buffer.compare(server.data, CONTENT)).toBe(0);
  expect(shares).toEqual([5 * MIB, 9 * MIB, CONTENT.length]);
});

test('an upload that the node has forgotten begins again', async () => {
  const server = new Server();

  await transfer(job(server, { upload: '/api/v1/uploads/old' }));

  expect(server.requests.slice(0, 2)).toEqual(['HEAD /api/v1/uploads/old', 'POST /api/v1/uploads']);
});

/** On a line that drops long requests, the same piece would never arrive. */
test('pieces shrink when the line breaks, and what arrived is not sent again', async () => {
  const server = new Server();
  let patches = 0;
  server.before = (method) => {
    if (method !== 'PATCH') return undefined;
    patches += 1;
    if (patches <= 2) throw new Unreachable();
    return undefined;
  };

  await transfer(job(server));

  expect(Buffer.compare(server.data, CONTENT)).toBe(0);
  expect((server.bodies[0] as Blob).size).toBe(MIB);
});

test('a node that is gone is reported, not asked for ever', async () => {
  const server = new Server();
  server.before = (method) => {
    if (method !== 'POST') throw new Unreachable();
    return undefined;
  };

  await expect(transfer(job(server))).rejects.toBeInstanceOf(Unreachable);
  expect(server.requests.length).toBeLessThan(20);
});

/** A full disk must not be hammered. */
test('a refusal ends the transfer', async () => {
  const server = new Server();
  server.before = (method) => (method === 'PATCH' ? new Response(null, { status: 507 }) : undefined);

  await expect(transfer(job(server))).rejects.toBeInstanceOf(Refused);
});

/** A token must never go where the app did not come from. */
test('an address elsewhere is asked for here', async () => {
  const server = new Server();

  await transfer(job(server, { uploads: 'https://evil.test/api/v1/uploads' }));

  expect(server.requests[0]).toBe('POST /api/v1/uploads');
});

/** A collector comes late: of a gigabyte, a quarter lay about in the renderer. */
test('what was hashed is let go of at once', async () => {
  const server = new Server();
  const read: ArrayBuffer[] = [];
  class Watched extends File {
    override slice(from?: number, to?: number): Blob {
      const part = super.slice(from, to);
      const arrayBuffer = part.arrayBuffer.bind(part);
      let first = true;
      // The first to read a piece hashes it; then the server of this test does.
      part.arrayBuffer = async () => {
        const bytes = await arrayBuffer();
        if (first) read.push(bytes);
        first = false;
        return bytes;
      };
      return part;
    }
  }

  await transfer(job(server, { file: new Watched([CONTENT], 'x') }));

  expect(read.length).toBeGreaterThan(2);
  expect(read.map(({ byteLength }) => byteLength)).toEqual(read.map(() => 0));
});
