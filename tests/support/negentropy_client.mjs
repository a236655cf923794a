// The initiator of nostr-tools (module nip77), which speaks the same lines on standard input and
// output as `clinicmesh reconcile-stdio` does.
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const [packages, limit] = process.argv.slice(2)
// Its package names no entry for this module.
const found = join(dirname(packages), 'node_modules', 'nostr-tools', 'lib', 'esm', 'nip77.js')
const { Negentropy, NegentropyStorageVector } = await import(pathToFileURL(found).href)

const items = new NegentropyStorageVector()
let side
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...fields] = line.split(',')
  if (command === 'item') items.insert(Number(fields[0]), fields[1])
  else if (command === 'seal') items.seal()
  else if (command === 'initiate') {
    side = new Negentropy(items, Number(limit) || 2 ** 30)
    console.log(`msg,${side.initiate()}`)
  } else if (command === 'msg') {
    const next = side.reconcile(
      fields[0],
      (id) => console.log(`have,${id}`),
      (id) => console.log(`need,${id}`),
    )
    console.log(next ? `msg,${next}` : 'done')
  }
}
