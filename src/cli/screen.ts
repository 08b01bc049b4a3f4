import type { Output } from './terminal.ts'

const ESC = '\u001b['
const OPEN = `${ESC}?1049h${ESC}?25l`
const CLOSE = `${ESC}?25h${ESC}?1049l`

/**
 * A picture drawn over and over on a terminal's second screen, so that what stood there before comes back at the end.
 * Either open or closed; closing twice is harmless.
 */
export class Screen {
  readonly #output: Output
  #open = false

  constructor(output: Output) {
    this.#output = output
  }

  /** Replaces what is shown. Lines that find no room below are left out, and the last one says so. */
  draw(lines: readonly string[]): void {
    const rows = this.#output.rows ?? 24
    const shown = lines.length > rows ? [...lines.slice(0, rows - 1), '…'] : lines
    // Clearing to the end of each line instead of the whole screen first keeps it from flickering.
    const picture = shown.map((line) => `${line}${ESC}K`).join('\r\n')
    this.#output.write(`${this.#open ? '' : OPEN}${ESC}H${picture}${ESC}J`)
    this.#open = true
  }

  close(): void {
    if (this.#open) this.#output.write(CLOSE)
    this.#open = false
  }
}
