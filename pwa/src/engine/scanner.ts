/** Read a QR code with the camera: by the browser where it can, else by a library that is loaded for it. */

interface Detector {
  detect(image: CanvasImageSource): Promise<readonly { readonly rawValue: string }[]>;
}

interface DetectorClass {
  new (options: { formats: readonly string[] }): Detector;
  getSupportedFormats(): Promise<readonly string[]>;
}

const EVERY_MS = 200;
/** Codes on a screen or paper are large in the picture; more pixels only cost time. */
const WIDEST = 640;

type Decode = (canvas: HTMLCanvasElement) => Promise<string | null>;

async function decoder(): Promise<Decode> {
  const native = (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector;
  if (native !== undefined && (await native.getSupportedFormats()).includes('qr_code')) {
    const detector = new native({ formats: ['qr_code'] });
    return async (canvas) => (await detector.detect(canvas))[0]?.rawValue ?? null;
  }
  const { default: decodeQr } = await import('qr/decode.js');
  return async (canvas) => {
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (context === null) return null;
    try {
      return decodeQr(context.getImageData(0, 0, canvas.width, canvas.height));
    } catch {
      // No code in this picture.
      return null;
    }
  };
}

/**
 * Show the camera in `video` until a code that `accept` takes is seen, and return what `accept` made of it.
 * Throws when there is no camera or a person refuses it; null when the signal ended it.
 */
export async function scan<T>(
  video: HTMLVideoElement,
  accept: (text: string) => T | null,
  signal: AbortSignal,
): Promise<T | null> {
  const decode = await decoder();
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  const canvas = document.createElement('canvas');
  try {
    video.srcObject = stream;
    await video.play();
    while (!signal.aborted) {
      const scale = Math.min(1, WIDEST / Math.max(1, video.videoWidth));
      canvas.width = Math.round(video.videoWidth * scale);
      canvas.height = Math.round(video.videoHeight * scale);
      if (canvas.width > 0 && canvas.height > 0) {
        canvas
          .getContext('2d', { willReadFrequently: true })
          ?.drawImage(video, 0, 0, canvas.width, canvas.height);
        const text = await decode(canvas);
        const found = text === null ? null : accept(text);
        if (found !== null) return found;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
    return null;
  } finally {
    video.srcObject = null;
    for (const track of stream.getTracks()) track.stop();
  }
}
