import { runnerImport } from 'vite'

// Runs a TypeScript file as a process of its own, also on a Node that cannot: node run-typescript.mjs file.ts …
await runnerImport(process.argv[2], {
  configFile: false,
  logLevel: 'silent',
  server: { hmr: false, ws: false, watch: null },
})
