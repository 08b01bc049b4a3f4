import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { isReachable } from './api/client.ts'
import { maySomewhere, signOut, visitor } from './session/session.ts'
import { Button } from './ui/button.tsx'
import { Toasts } from './ui/toasts.tsx'
import { PAGES } from './views/pages.ts'

/** What stands around every page: where one can go, who one is, and whether the server is there. */
export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = useLocation()
  const [isOpen, setOpen] = useState(false)
  useEffect(() => setOpen(false), [path])
  const found = visitor.value
  const user = found.kind === 'somebody' ? found.who.user : undefined
  return (
    <div class="shell">
      <a class="skip" href="#content">
        Skip to the content
      </a>
      <header class="side">
        <div class="top">
          <a class="brand" href="/">
            <img src="/favicon.svg" alt="" />
            Beacon
          </a>
          <Button class="menu-button" size="small" expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            {isOpen ? 'Close' : 'Menu'}
          </Button>
        </div>
        <nav aria-label="Pages" data-open={isOpen}>
          {PAGES.filter(({ title, scope }) => title && (!scope || maySomewhere(scope))).map((page) => (
            <a
              key={page.path}
              class="item"
              href={page.path}
              aria-current={isAt(path, page.path) ? 'page' : undefined}
            >
              {page.title}
            </a>
          ))}
        </nav>
        <div class="rest">
          <a class="item" href="/docs/" target="_blank" rel="noreferrer">
            API
          </a>
          {user && (
            <a class="item" href="/account" aria-current={path === '/account' ? 'page' : undefined}>
              {user.name}
            </a>
          )}
          <Button kind="quiet" size="small" onClick={signOut}>
            Sign out
          </Button>
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        {!isReachable.value && (
          <div class="notice disconnected" data-tone="warn" role="alert">
            The server cannot be reached. What is shown may be old; it is tried again by itself.
          </div>
        )}
        {children}
      </main>
      <Toasts />
    </div>
  )
}

function isAt(path: string, page: string): boolean {
  return page === '/'
    ? path === '/' || path.startsWith('/robots/')
    : path === page || path.startsWith(`${page}/`)
}
