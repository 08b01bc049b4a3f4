// Packs the agent with a Node of its own. The same contents give the same bytes, so that all servers of one version
// hand out the same file.
import { gzipSync } from 'node:zlib'

const BLOCK = 512

/** The archive that install.sh unpacks: the folder beacon-agent/ with `node`, its licence and the agent. */
export function packAgent({ node, licence, bundle }) {
  return gzipSync(
    Buffer.concat([
      ...entry('beacon-agent/LICENSE', licence, 0o644),
      ...entry('beacon-agent/beacon-agent.mjs', bundle, 0o644),
      ...entry('beacon-agent/node', node, 0o755),
      Buffer.alloc(2 * BLOCK),
    ]),
  )
}

/** One file as POSIX has it in a ustar archive: root's, and of no time. */
function entry(name, contents, mode) {
  const header = Buffer.alloc(BLOCK)
  const octal = (value, at, length) => header.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1')
  header.write(name, 0, 100, 'latin1')
  octal(mode, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(contents.byteLength, 124, 12)
  octal(0, 136, 12)
  header.write('        0', 148, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return [header, contents, Buffer.alloc(-contents.byteLength & (BLOCK - 1))]
}
