import { type EChartsOption, init, setPlatformAPI } from 'echarts'

export type { EChartsOption }

const INK = '#24292f'
const FAINT = '#d0d7de'
const FONT = 'sans-serif'

/** There is no browser to ask how wide a text is; in the widest of the usual fonts a letter is so wide, on average. */
const LETTER_WIDTH = 0.6
setPlatformAPI({
  measureText: (text, font) => ({
    width: text.length * LETTER_WIDTH * Number(/(\d+(?:\.\d+)?)px/.exec(font ?? '')?.[1] ?? 12),
  }),
})

/** Told apart also by those who see fewer colours (Okabe and Ito). */
export const COLOURS = {
  ours: '#0072b2',
  bare: '#8c959f',
  good: '#009e73',
  bad: '#d55e00',
  third: '#cc79a7',
  fourth: '#e69f00',
} as const

export const AXIS = {
  nameTextStyle: { color: INK },
  axisLabel: { color: INK, fontFamily: FONT },
  axisLine: { lineStyle: { color: INK } },
  splitLine: { lineStyle: { color: FAINT } },
} as const

export interface Size {
  readonly width: number
  readonly height: number
}

/** A chart as a file of its own: with a background, so that it can be read on a dark page, too. */
export function svgOf(title: string, { width, height }: Size, options: EChartsOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  chart.setOption({
    backgroundColor: '#ffffff',
    animation: false,
    textStyle: { fontFamily: FONT, color: INK },
    title: {
      text: title,
      left: 'center',
      top: 10,
      textStyle: { fontSize: 15, color: INK, fontFamily: FONT },
    },
    ...options,
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/** `12,300`, `4.56`, `0.123`: three digits that count. */
export function shortNumber(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: Math.abs(value) >= 1_000 ? 4 : 3 })
}
