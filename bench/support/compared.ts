import { spreadOf } from './measure.ts'
import type { BarChart } from './report.ts'

type Group = BarChart['groups'][number]

/** Ours beside the bare engine's, in one unit. The aim is a multiple of what the bare engine came out with. */
export function comparedWithBare(
  label: string,
  unit: string,
  { ours, bare }: { readonly ours: readonly number[]; readonly bare: readonly number[] },
  aim?: { readonly times: number; readonly good: 'above' | 'below' },
): Group {
  const [oursSpread, bareSpread] = [spreadOf(ours), spreadOf(bare)]
  return {
    label,
    unit,
    bars: [
      { name: 'ours', spread: oursSpread },
      { name: 'bare', spread: bareSpread },
    ],
    ...(aim === undefined ? {} : { aim: { value: aim.times * bareSpread.median, good: aim.good } }),
  }
}
