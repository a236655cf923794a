/** Server-sent events (HTML standard §9.2), read with fetch because EventSource sends no token. */

import type { Client } from './client';
import { accepted } from './http';

/**
 * Call `changed` with the name of each event, such as `studies`, until the signal or the line ends.
 * Only names count: what changed is asked for anew, so a lost event costs a little time and no truth.
 */
export async function listen(
  client: Client,
  changed: (name: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await accepted(
    await client.ask('/api/v1/events', { signal, headers: { Accept: 'text/event-stream' } }),
  );
  // What changed before the line was open is not told on it.
  changed('all');
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const piece = await reader?.read();
    if (piece === undefined || piece.done) return;
    const lines = (rest + piece.value).split(/\r\n|\r|\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const name = /^event: ?(.*)$/.exec(line)?.[1];
      if (name) changed(name);
    }
  }
}
