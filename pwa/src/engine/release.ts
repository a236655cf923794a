/**
 * Give the memory of bytes back at once: they are sent off to nobody, and cannot be read any more.
 *
 * A collector looks when it likes: of large files that went through in pieces of 4 MiB, 250 MB lay about in
 * Chromium. `ArrayBuffer.transfer(0)` is no way: the browser's side of a buffer kept its memory (1 GB).
 */
export function release(bytes: ArrayBufferLike): void {
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(null, [bytes as ArrayBuffer]);
  port1.close();
  port2.close();
}
