import { useMemo } from 'preact/hooks'
import { encode } from 'uqr'

/** Dark squares as one path: a run of them in a row is one step. */
export function pathOf(rows: readonly (readonly boolean[])[]): string {
  return rows
    .flatMap((row, y) =>
      row.map((dark, x) => {
        if (!dark || row[x - 1]) return ''
        const end = row.indexOf(false, x)
        const length = (end < 0 ? row.length : end) - x
        return `M${x} ${y}h${length}v1h-${length}z`
      }),
    )
    .join('')
}

/** Four light squares around it are part of a QR code: without them not every camera finds it. */
const BORDER = 4

/** For cameras: black on white in the dark, too. */
export function QrCode({ text, title }: { text: string; title: string }) {
  const { size, path } = useMemo(() => {
    const { data } = encode(text, { ecc: 'M', border: BORDER })
    return { size: data.length, path: pathOf(data) }
  }, [text])
  return (
    <svg class="qr-code" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={title}>
      <path d={path} fill="currentColor" shape-rendering="crispEdges" />
    </svg>
  )
}
