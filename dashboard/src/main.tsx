import { render } from 'preact'
import { App } from './app.tsx'
import './styles/tokens.css'
import './styles/base.css'
import './styles/ui.css'
import './styles/shell.css'
import { followTheme } from './ui/theme.ts'

followTheme()
render(<App />, document.querySelector('#app')!)
