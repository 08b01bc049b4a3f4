import { useMemo } from 'preact/hooks'
import { encode } from 'uqr'
import { qrPath } from './qr-path.ts'

/** Four light squares around it are part of a QR code: without them not every camera finds it. */
const BORDER = 4

/** For cameras: black on white in the dark, too. */
export function QrCode({ text, title }: { text: string; title: string }) {
  const { size, path } = useMemo(() => {
    const { data } = encode(text, { ecc: 'M', border: BORDER })
    return { size: data.length, path: qrPath(data) }
  }, [text])
  return (
    <svg class="qr-code" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={title}>
      <path d={path} fill="currentColor" shape-rendering="crispEdges" />
    </svg>
  )
}
