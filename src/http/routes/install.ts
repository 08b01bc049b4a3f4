import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { BeaconError } from '../../errors.ts'
import { HANDOUT_NAMES } from '../../install/handouts.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'

/** So that slow ones cannot take all of the server's descriptors: everybody may ask. */
const MAX_DOWNLOADS = 200
const RETRY_AFTER_SECONDS = 10
/** May be kept, and is asked for again each time: a new server brings a new agent. */
const REVALIDATED = 'public, no-cache'

const unchanged = z.undefined().describe('What `If-None-Match` names is still what it is')
const NOT_BUILT =
  'this server has no such file: "npm run build" makes the agent, "npm run build:agent" the one with Node'

/** What robots install themselves with. */
export function installRoutes(app: App, parts: HttpParts): void {
  const { config, handouts } = parts
  const downloads = new Set<Readable>()
  // Whoever reads slowly does not keep the server from stopping.
  app.addHook('preClose', async () => {
    for (const download of downloads) download.destroy()
  })

  app.route({
    method: 'GET',
    url: '/install.sh',
    config: { scope: 'public', problems: ['not_found'] },
    schema: {
      operationId: 'getInstallScript',
      summary: 'The script that installs the agent on a robot',
      description:
        'For `curl -fsSL …/install.sh | sh -s -- --enrollment-key …`. It knows the address of this server.',
      tags: ['Agents'],
      response: {
        200: {
          description: 'A POSIX shell script',
          content: { 'text/x-shellscript': { schema: z.string() } },
        },
      },
    },
    handler: async (request, reply) => {
      const script = handouts.script(publicUrl(config, request))
      if (!script) throw new BeaconError('not_found', NOT_BUILT)
      reply.type('text/x-shellscript; charset=utf-8')
      return script
    },
  })

  app.route({
    method: 'GET',
    url: '/install/:file',
    config: { scope: 'public', problems: ['not_found', 'overloaded'] },
    schema: {
      operationId: 'getInstallFile',
      summary: 'The agent',
      description:
        'One file for Node, or with a Node of its own where this server was built with them. `SHA256SUMS` has the checksums of all.',
      tags: ['Agents'],
      params: z.object({ file: z.enum(HANDOUT_NAMES) }),
      response: {
        200: { description: 'The file', content: { 'application/octet-stream': { schema: z.string() } } },
        304: unchanged,
      },
    },
    handler: async (request, reply) => {
      const file = handouts.file(request.params.file)
      if (!file) throw new BeaconError('not_found', NOT_BUILT)
      if (downloads.size >= MAX_DOWNLOADS)
        throw new BeaconError('overloaded', 'too many are downloading', {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        })
      reply.header('cache-control', REVALIDATED)
      if (isUnchanged(request, reply, file.etag)) return reply.code(304).send()
      reply.type(file.type).header('content-length', file.sizeBytes)
      // Of which HEAD shows the length alone.
      const stream = request.method === 'HEAD' ? Readable.from([]) : file.open()
      downloads.add(stream)
      stream.once('close', () => downloads.delete(stream))
      return reply.send(stream as unknown as string)
    },
  })
}

function isUnchanged(request: FastifyRequest, reply: FastifyReply, etag: string): boolean {
  reply.header('etag', etag)
  const known = request.headers['if-none-match']?.split(',') ?? []
  return known.some((part) => [etag, `W/${etag}`, '*'].includes(part.trim()))
}
