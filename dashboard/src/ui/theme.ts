import { signal } from '@preact/signals'

export type Theme = 'light' | 'dark' | 'system'

const KEY = 'beacon.theme'

export const theme = signal<Theme>('system')

/** What was chosen in this browser; where nothing can be kept, as the system has it. */
function kept(): Theme {
  try {
    const text = localStorage.getItem(KEY)
    return text === 'light' || text === 'dark' ? text : 'system'
  } catch {
    return 'system'
  }
}

function show(next: Theme): void {
  theme.value = next
  if (next === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = next
}

export function chooseTheme(next: Theme): void {
  show(next)
  try {
    if (next === 'system') localStorage.removeItem(KEY)
    else localStorage.setItem(KEY, next)
  } catch {
    // It holds until the page is left.
  }
}

/** Shows the page as it was chosen, also when another tab chooses. */
export function followTheme(): void {
  show(kept())
  addEventListener('storage', ({ key }) => {
    if (key === KEY || key === null) show(kept())
  })
}
