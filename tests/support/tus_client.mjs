// tus-js-client, the reference client of the protocol, as a program: uploads a file, and may break off and go on.
//
//   node tus_client.mjs '{"modules": …/package.json, "endpoint", "token", "file", "submission", "chunk", …}'
//
// It prints one line of JSON: {"url", "sent": bytes that were sent, "steps": [bytes accepted…]}.
import { createReadStream, statSync } from 'node:fs';
import { createRequire } from 'node:module';

const asked = JSON.parse(process.argv[2]);
const tus = createRequire(asked.modules)('tus-js-client');
const size = statSync(asked.file).size;

function upload(more) {
  return new Promise((resolve, reject) => {
    const steps = [];
    const one = new tus.Upload(createReadStream(asked.file), {
      endpoint: asked.endpoint,
      headers: { Authorization: `Bearer ${asked.token}` },
      chunkSize: asked.chunk,
      uploadSize: size,
      uploadDataDuringCreation: asked.withCreation,
      overridePatchMethod: asked.overridePatch,
      retryDelays: [0, 200, 1000],
      metadata: { submission: asked.submission, filename: 'Doe^Jane.zip', filetype: 'application/zip' },
      onChunkComplete: (_, accepted) => {
        steps.push(accepted);
        if (more.stopAt !== undefined && accepted >= more.stopAt) {
          one.abort(false).then(() => resolve({ url: one.url, steps }));
        }
      },
      onError: reject,
      onSuccess: () => resolve({ url: one.url, steps }),
      ...more.options,
    });
    one.start();
  });
}

async function main() {
  const told = [];
  let url;
  if (asked.breakOffAt !== undefined) {
    const first = await upload({ stopAt: asked.breakOffAt });
    url = first.url;
    told.push(...first.steps);
  }
  if (asked.terminate) {
    await tus.Upload.terminate(url, { headers: { Authorization: `Bearer ${asked.token}` } });
  } else {
    const last = await upload({ options: url === undefined ? {} : { uploadUrl: url } });
    url = last.url;
    told.push(...last.steps);
  }
  console.log(JSON.stringify({ url, steps: told }));
}

await main();
