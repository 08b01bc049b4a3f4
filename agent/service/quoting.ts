/** A word of ExecStart= or Environment= as systemd reads it back: specifiers, variables and quotes mean nothing in it. */
export function unitWord(word: string): string {
  const escaped = backslashed(word).replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w/.:=@+,%$-]+$/.test(escaped) ? escaped : `"${escaped}"`
}

/** A word of Environment=, where `$` has no meaning. */
export function environmentWord(word: string): string {
  return `"${backslashed(word).replaceAll('%', '%%')}"`
}

/** A path in a setting that takes one path and knows no quotes. */
export function unitPath(path: string): string {
  return path.replaceAll('%', '%%')
}

/** The value of an assignment in a file for EnvironmentFile=. */
export function environmentValue(value: string): string {
  return /^[\w/.:@+,-]+$/.test(value) ? value : `"${value.replace(/["\\$`]/g, '\\$&')}"`
}

function backslashed(word: string): string {
  return word.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\t', '\\t')
}
