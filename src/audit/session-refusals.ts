import { newId } from '../ids.ts'
import type { Clock } from '../runtime.ts'
import type { Audit } from './audit.ts'

interface Request {
  readonly remoteAddress: string
}

type Admission =
  | { readonly kind: 'accept' }
  | { readonly kind: 'refuse'; readonly error: { readonly status: number; readonly code: string } }

const TOLD = new Set([401, 403, 429])

/** Lets robots in as `admit` does, and tells the audit log of those that are turned away for their token. */
export function tellingRefusals<Asked extends Request, Answer extends Admission>(
  admit: (request: Asked) => Promise<Answer>,
  { audit, clock }: { readonly audit: Pick<Audit, 'refused'>; readonly clock: Clock },
): (request: Asked) => Promise<Answer> {
  return async (request) => {
    const answer = await admit(request)
    if (answer.kind === 'refuse' && TOLD.has(answer.error.status))
      audit.refused({
        id: newId(),
        at: new Date(clock.now()),
        action: 'robot_session.refused',
        outcome: 'refused',
        actor: { kind: 'anonymous', id: null, name: null },
        target: null,
        siteId: null,
        fleetId: null,
        requestId: null,
        address: request.remoteAddress,
        data: { code: answer.error.code },
      })
    return answer
  }
}
