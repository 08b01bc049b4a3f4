import type { Reporter, SerializedError, TestModule } from 'vitest/node'

/**
 * Ends a run with `N passed, N failed` on a line of its own. Files that do not load and errors outside of any test
 * count as failures, so that a failed run never says "0 failed".
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(
    modules: readonly TestModule[],
    unhandledErrors: readonly SerializedError[],
    reason: 'passed' | 'failed' | 'interrupted',
  ): void {
    let passed = 0
    let failed = unhandledErrors.length
    for (const module of modules) {
      failed += module.errors().length
      for (const suite of module.children.allSuites()) failed += suite.errors().length
      for (const test of module.children.allTests()) {
        if (test.result().state === 'passed') passed += 1
        if (test.result().state === 'failed') failed += 1
      }
    }
    if (reason !== 'passed' && failed === 0) failed = 1
    process.stdout.write(`${passed} passed, ${failed} failed\n`)
  }
}
