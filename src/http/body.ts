import type { FastifyInstance } from 'fastify'
import { BeaconError } from '../errors.ts'

/** Takes JSON and nothing else: well-formed UTF-8, no keys that reach into prototypes; an empty body is no body. */
export function acceptJson(app: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) {
      done(null, undefined)
      return
    }
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch (cause) {
      done(new BeaconError('invalid_json', 'the body is not UTF-8', { cause }))
      return
    }
    parse(request, text, (error, value) => {
      if (error) done(new BeaconError('invalid_json', undefined, { cause: error }))
      else done(null, value)
    })
  })
}
