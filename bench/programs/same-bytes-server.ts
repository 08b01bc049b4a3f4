import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { answerQuestions } from '../support/answering.ts'

// The baseline of REST: fastify alone, which answers each path with bytes that it was given beforehand.

export interface SameBytesQuestion {
  readonly answers: readonly { readonly path: string; readonly type: string; readonly body: string }[]
}

answerQuestions(async ({ answers }: SameBytesQuestion) => {
  const app = fastify({ logger: false })
  for (const { path, type, body } of answers)
    app.get(path, async (_request, reply) => {
      reply.type(type)
      return body
    })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
})
