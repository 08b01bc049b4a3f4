import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'

/** Answers that go on for as long as somebody reads, with what is enough of them. */
const ENDLESS: Readonly<Record<string, RegExp>> = { '/api/live': /"done":true.*\n\n$/s }

/** What is asked of the edge without a connection; of an answer without an end, its beginning. */
export async function ask(
  app: FastifyInstance,
  options: InjectOptions,
): Promise<Pick<LightMyRequestResponse, 'statusCode' | 'headers' | 'payload'>> {
  const enough = ENDLESS[String(options.url).split('?', 1)[0]!]
  if (!enough || options.method === 'HEAD') return app.inject(options)
  const answer = await app.inject({ ...options, payloadAsStream: true })
  let payload = ''
  for await (const chunk of answer.stream()) {
    payload += chunk
    if (enough.test(payload)) break
  }
  answer.raw.res.destroy()
  return { statusCode: answer.statusCode, headers: answer.headers, payload }
}
