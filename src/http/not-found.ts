import type { FastifyInstance } from 'fastify'
import { BeaconError } from '../errors.ts'

interface Known {
  readonly pattern: RegExp
  readonly methods: Set<string>
}

function patternOf(url: string): RegExp {
  const source = url
    .split('/')
    .map((part) =>
      part === '*' ? '.*' : part.startsWith(':') ? '[^/]+' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
    )
    .join('/')
  return new RegExp(`^${source}$`)
}

/** Answers 404, or 405 with `Allow` where the address is known with other methods. */
export function answerUnknown(app: FastifyInstance): void {
  const routes = new Map<string, Known>()
  app.addHook('onRoute', ({ url, method }) => {
    const known = routes.get(url) ?? { pattern: patternOf(url), methods: new Set() }
    for (const name of [method].flat()) known.methods.add(name)
    routes.set(url, known)
  })
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0]!
    const methods = [...routes.values()]
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((known) => [...known.methods])
    // A method that the address takes means that what it names is not there.
    if (methods.length === 0 || methods.includes(request.method))
      throw new BeaconError('not_found', 'there is nothing at this address')
    reply.header('allow', [...new Set(methods)].sort().join(', '))
    throw new BeaconError('method_not_allowed')
  })
}
