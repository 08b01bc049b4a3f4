// Makes dist/install/, what the control plane hands out to robots: the agent as one file, and the script that installs
// it. Part of `npm run build`.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { BUNDLE, discardOthersThan, FOLDER, put, root, SCRIPT, sumUp } from './folder.mjs'

const MAX_BYTES = 1_500_000
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Error messages of zod in fifty languages; the agent speaks English. */
const oneLanguage = {
  name: 'one-language',
  setup: (at) => {
    at.onLoad({ filter: /zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js'",
      loader: 'js',
    }))
  },
}

/**
 * Node's own modules without imports, which Node would load before any line of the agent's: `spareMemory` comes before them.
 */
const withoutImports = {
  name: 'without-imports',
  setup: (at) => {
    const taken = (path) => `process.getBuiltinModule(${JSON.stringify(path)})`
    at.onResolve({ filter: /^node:/ }, ({ path, kind }) => ({
      path,
      namespace: kind === 'require-call' ? 'node-required' : 'node-imported',
    }))
    at.onLoad({ filter: /.*/, namespace: 'node-required' }, ({ path }) => ({
      contents: `module.exports = ${taken(path)}`,
      loader: 'js',
    }))
    at.onLoad({ filter: /.*/, namespace: 'node-imported' }, ({ path }) => ({
      contents: [
        `const module = ${taken(path)}`,
        'export default module',
        // What nobody asks for is left out.
        ...Object.keys(process.getBuiltinModule(path))
          .filter((name) => /^[a-z]\w*$/i.test(name) && name !== 'default')
          .map(
            (name) =>
              `const _${name} = /* @__PURE__ */ (() => module.${name})(); export { _${name} as ${name} }`,
          ),
      ].join('\n'),
      loader: 'js',
    }))
  },
}

/** The licences of the packages in it, which they ask to be shown. */
function licencesOf(inputs) {
  const packages = new Set(
    inputs.flatMap((path) => /^(?:.*\/)?node_modules\/(@[^/]+\/[^/]+|[^/]+)\//.exec(path)?.[1] ?? []),
  )
  return [...packages].sort().map((name) => {
    const folder = join(root, 'node_modules', name)
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
    if (file === undefined) throw new Error(`${name} is in the agent, and has no licence that could be shown`)
    return `${name}\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`
  })
}

const result = await build({
  absWorkingDir: root,
  entryPoints: [join(root, 'src/cli/agent-main.ts')],
  bundle: true,
  minify: true,
  platform: 'node',
  // The oldest Node that runs Beacon.
  target: 'node20.19',
  format: 'esm',
  legalComments: 'none',
  metafile: true,
  plugins: [oneLanguage, withoutImports],
  // A single letter beyond Latin-1 would have V8 keep the whole text in two bytes a letter.
  charset: 'ascii',
  write: false,
  define: {
    BEACON_AGENT_VERSION: JSON.stringify(version),
    // Optional parts of ws; one that lies around beside the file must not be taken for them.
    'process.env.WS_NO_BUFFER_UTIL': '"1"',
    'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
  },
  external: ['bufferutil', 'utf-8-validate'],
  banner: {
    // Packages written for CommonJS ask for Node's own modules this way.
    js: [
      '#!/usr/bin/env node',
      `// Beacon ${version}, the agent: https://www.apache.org/licenses/LICENSE-2.0`,
      "import { createRequire as beaconRequire } from 'node:module'; const require = beaconRequire(import.meta.url);",
    ].join('\n'),
  },
})

const licences = licencesOf(Object.keys(result.metafile.inputs)).join('\n----\n\n')
// It says of itself what is typed on a robot, where there is no `beacon`.
const code = result.outputFiles[0].text.replaceAll('beacon agent', 'beacon-agent')
const contents = Buffer.from(`${code}/*\n${licences.replaceAll('*/', '* /')}*/\n`)
if (contents.byteLength > MAX_BYTES)
  throw new Error(`the agent has grown to ${contents.byteLength} bytes; ${MAX_BYTES} are its limit`)
discardOthersThan(contents)
put(BUNDLE, contents, 0o755)
put(SCRIPT, readFileSync(join(root, 'deploy/agent/install.sh')), 0o755)
sumUp()
process.stdout.write(`${join(FOLDER, BUNDLE)}: ${contents.byteLength} bytes\n`)
