import type { ComponentType } from 'preact'
import { lazy } from 'preact-iso'
import type { Scope } from '../../../src/access/scopes.ts'
import { NotLoaded } from './not-loaded.tsx'

export interface PageEntry {
  readonly path: string
  /** In the navigation; pages without one are reached from others. */
  readonly title?: string
  /** What one has to hold somewhere for the page to be of use. */
  readonly scope?: Scope
  readonly component: ComponentType
}

const view = (load: () => Promise<ComponentType>) => lazy(() => load().catch(() => NotLoaded))

/** Every page, in the order of the navigation. Each is loaded when it is first looked at. */
export const PAGES: readonly PageEntry[] = [
  {
    path: '/',
    title: 'Fleet',
    scope: 'robots:read',
    component: view(() => import('./fleet/fleet.tsx').then(({ Fleet }) => Fleet)),
  },
  {
    path: '/floor',
    title: 'Floor',
    scope: 'robots:read',
    component: view(() => import('./floor/floor.tsx').then(({ Floor }) => Floor)),
  },
  {
    path: '/approvals',
    title: 'Approvals',
    scope: 'robots:read',
    component: view(() => import('./approvals/approvals.tsx').then(({ Approvals }) => Approvals)),
  },
  {
    path: '/keys',
    title: 'Keys',
    scope: 'enrollment-keys:read',
    component: view(() => import('./keys/keys.tsx').then(({ Keys }) => Keys)),
  },
  {
    path: '/places',
    title: 'Places',
    scope: 'robots:read',
    component: view(() => import('./places/places.tsx').then(({ Places }) => Places)),
  },
  {
    path: '/robots/:id',
    scope: 'robots:read',
    component: view(() => import('./robot/robot.tsx').then(({ Robot }) => Robot)),
  },
  {
    path: '/tokens',
    title: 'Tokens',
    component: view(() => import('./tokens/tokens.tsx').then(({ Tokens }) => Tokens)),
  },
  {
    path: '/people',
    title: 'People',
    scope: 'users:manage',
    component: view(() => import('./people/people.tsx').then(({ People }) => People)),
  },
  {
    path: '/audit',
    title: 'Audit',
    scope: 'audit:read',
    component: view(() => import('./audit/audit.tsx').then(({ Audit }) => Audit)),
  },
  {
    path: '/account',
    component: view(() => import('./account/account.tsx').then(({ Account }) => Account)),
  },
  {
    path: '/welcome',
    scope: 'enrollment-keys:write',
    component: view(() => import('./welcome/welcome.tsx').then(({ Welcome }) => Welcome)),
  },
]
