import {
  invitation,
  managesTokens,
  managesTokensOf,
  onThePage,
  otherWholeUser,
  ownSession,
  ownTokens,
  type Rule,
  revocationOfAll,
  type Scope,
  tokenList,
  tokensOf,
  userChange,
  users,
  wholeUser,
} from './rules.ts'

const public_: Rule = { who: 'everybody' }
const site = (scope: Scope): Rule => ({ who: 'there', scope, seenWith: 'robots:read' })
const fleet = site
const robot = site
const key = (scope: Scope): Rule => ({ who: 'there', scope, seenWith: 'enrollment-keys:read' })

/** Every route there is, and who may call it. Nothing of src/ here, either. */
export const RULES: Readonly<Record<string, Rule>> = {
  'GET /healthz': public_,
  'GET /readyz': public_,
  'GET /api/info': public_,
  'GET /openapi.json': public_,
  'GET /agent/ws': public_,
  'GET /install.sh': public_,
  'GET /install/{file}': public_,
  'POST /agent/enroll': { who: 'claimants' },
  'GET /agent/check': { who: 'claimants' },

  'GET /metrics': { who: 'deployment', scope: 'metrics:read' },
  'GET /metrics/robots': { who: 'list', scope: 'metrics:read' },
  'GET /api/prometheus/sd': { who: 'list', scope: 'metrics:read' },

  // A site's name is the deployment's, a fleet's name its site's (see `also` in cells.ts).
  'GET /api/sites': { who: 'list', scope: 'robots:read' },
  'POST /api/sites': { who: 'deployment', scope: 'robots:write' },
  'GET /api/sites/{id}': site('robots:read'),
  'PATCH /api/sites/{id}': site('robots:write'),
  'DELETE /api/sites/{id}': site('robots:write'),

  'GET /api/fleets': { who: 'list', scope: 'robots:read' },
  'POST /api/fleets': { who: 'named', scope: 'robots:write', seenWith: 'robots:read' },
  'GET /api/fleets/{id}': fleet('robots:read'),
  'PATCH /api/fleets/{id}': fleet('robots:write'),
  'DELETE /api/fleets/{id}': fleet('robots:write'),

  'GET /api/robots': { who: 'list', scope: 'robots:read' },
  'GET /api/live': { who: 'list', scope: 'robots:read' },
  'GET /api/trails': { who: 'list', scope: 'robots:read' },
  'POST /api/robots': { who: 'named', scope: 'robots:write', seenWith: 'robots:read' },
  'GET /api/robots/{id}': robot('robots:read'),
  'PATCH /api/robots/{id}': robot('robots:write'),
  'GET /api/robots/{id}/heartbeats': robot('robots:read'),
  'GET /api/robots/{id}/events': robot('robots:read'),
  'POST /api/robots/{id}/revoke-token': robot('robots:write'),
  'POST /api/robots/{id}/approve': robot('robots:write'),
  'POST /api/robots/{id}/retire': robot('robots:write'),

  'POST /api/robots/{id}/deny': robot('robots:write'),
  'DELETE /api/robots/{id}': robot('robots:write'),
  'GET /api/approvals': { who: 'list', scope: 'robots:read' },
  'POST /api/approvals/approve': { who: 'list', scope: 'robots:write' },
  'POST /api/approvals/deny': { who: 'list', scope: 'robots:write' },
  'POST /api/robots/{id}/rotate-token': robot('robots:write'),
  'POST /api/robots/rotate-tokens': { who: 'list', scope: 'robots:write' },

  'GET /api/enrollment-keys': { who: 'list', scope: 'enrollment-keys:read' },
  'POST /api/enrollment-keys': {
    who: 'named',
    scope: 'enrollment-keys:write',
    seenWith: 'robots:read',
  },
  'GET /api/enrollment-keys/{id}': key('enrollment-keys:read'),
  'POST /api/enrollment-keys/{id}/revoke': key('enrollment-keys:write'),

  'GET /api/enrollment-keys/{id}/robots': key('enrollment-keys:read'),

  'GET /api/provisioning-tokens': { who: 'list', scope: 'enrollment-keys:read' },
  'POST /api/provisioning-tokens': {
    who: 'named',
    scope: 'enrollment-keys:write',
    seenWith: 'robots:read',
  },
  'GET /api/provisioning-tokens/{id}': key('enrollment-keys:read'),
  'GET /api/provisioning-tokens/{id}/robots': key('enrollment-keys:read'),
  'POST /api/provisioning-tokens/{id}/revoke': key('enrollment-keys:write'),

  'POST /api/robots/{id}/setup-token': {
    who: 'there',
    scope: 'enrollment-keys:write',
    seenWith: 'robots:read',
  },

  'GET /api/tokens': { who: 'people', judge: tokenList },
  'POST /api/tokens': { who: 'people', judge: ownTokens },
  'GET /api/tokens/self': { who: 'bearers' },
  'POST /api/tokens/self/rotate': { who: 'bearers' },
  'POST /api/tokens/self/revoke': { who: 'bearers' },
  'GET /api/tokens/{id}': tokensOf(() => true),
  'POST /api/tokens/{id}/revoke': tokensOf(
    (subject, person) =>
      person.is === 'self' ||
      (person.is === 'own' && managesTokens(subject)) ||
      managesTokensOf(subject, person),
  ),
  // Nobody is told a token that speaks in the name of another.
  'POST /api/tokens/{id}/rotate': tokensOf(
    (subject, person) => person.is === 'self' || (person.is === 'own' && managesTokens(subject)),
  ),
  'POST /api/tokens/revoke-all': { who: 'people', judge: revocationOfAll },

  'GET /api/fleets/{id}/tokens': fleet('tokens:manage'),
  'POST /api/fleets/{id}/tokens': fleet('tokens:manage'),
  'GET /api/fleets/{id}/tokens/{token_id}': fleet('tokens:manage'),
  'POST /api/fleets/{id}/tokens/{token_id}/revoke': fleet('tokens:manage'),
  'POST /api/fleets/{id}/tokens/{token_id}/rotate': fleet('tokens:manage'),

  'GET /api/users': { who: 'list', scope: 'users:manage' },
  'POST /api/users': { who: 'people', judge: invitation },
  'GET /api/users/{id}': users(() => 'allowed'),
  'PATCH /api/users/{id}': userChange,
  'DELETE /api/users/{id}': wholeUser,
  'POST /api/users/{id}/invite': wholeUser,
  'POST /api/users/{id}/reset-second-factor': otherWholeUser,
  'POST /api/invitations/accept': public_,

  'GET /api/security': { who: 'deployment', scope: 'users:manage' },
  'PATCH /api/security': { who: 'deployment', scope: 'users:manage', owner: true },

  'GET /api/sign-in': public_,
  'POST /api/sign-in': public_,
  'POST /api/sign-in/second-factor': public_,
  'GET /api/sign-in/oidc': public_,
  'GET /api/sign-in/oidc/callback': public_,
  'GET /api/session': { who: 'people', judge: () => 'allowed' },
  'POST /api/session/second-factor': { who: 'people', judge: onThePage },
  'POST /api/session/second-factor/confirm': { who: 'people', judge: onThePage },
  'POST /api/session/second-factor/backup-codes': { who: 'people', judge: onThePage },
  'POST /api/session/second-factor/remove': { who: 'people', judge: onThePage },
  'POST /api/password': { who: 'people', judge: onThePage },
  'GET /api/sessions': { who: 'people', judge: onThePage },
  'DELETE /api/sessions/{id}': { who: 'people', judge: ownSession },
  'POST /api/sign-out': { who: 'people', judge: onThePage },

  'GET /api/audit': { who: 'list', scope: 'audit:read' },
  'GET /api/audit/export': { who: 'list', scope: 'audit:read' },
  'GET /api/audit/verify': { who: 'deployment', scope: 'audit:read' },

  'GET /api/secrets': { who: 'deployment', scope: 'tokens:manage' },
  'POST /api/secrets/rotate': { who: 'deployment', scope: 'tokens:manage', owner: true },
}
