import type { ServerOptions } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import fastify, { type FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { proxyRule } from '../addresses.ts'
import type { TlsSettings } from '../config.ts'
import { BeaconError, problemOf } from '../errors.ts'
import { newId } from '../ids.ts'
import { requestIdOf } from '../request-id.ts'
import { readCertificate, renewCertificate } from '../tls.ts'
import { acceptJson } from './body.ts'
import { browserSessions } from './browser-sessions.ts'
import { dashboard } from './dashboard.ts'
import { documentationPage, documentRoutes } from './documentation.ts'
import { demandScopes, guardRoutes } from './guard.ts'
import { baseHeaders, setBaseHeaders } from './headers.ts'
import { answerUnknown } from './not-found.ts'
import type { App, HttpParts } from './parts.ts'
import { refusalFor, sendProblem } from './problems.ts'
import { limitRequests } from './rate-limits.ts'
import { tellRefusal } from './refusals.ts'
import { approvalRoutes } from './routes/approvals.ts'
import { auditRoutes } from './routes/audit.ts'
import { enrollmentKeyRoutes } from './routes/enrollment-keys.ts'
import { enrolmentRoutes } from './routes/enrolment.ts'
import { fleetTokenRoutes } from './routes/fleet-tokens.ts'
import { fleetRoutes } from './routes/fleets.ts'
import { installRoutes } from './routes/install.ts'
import { invitationRoutes } from './routes/invitations.ts'
import { liveRoutes } from './routes/live.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { oidcRoutes } from './routes/oidc.ts'
import { prometheusRoutes } from './routes/prometheus.ts'
import { provisioningTokenRoutes } from './routes/provisioning-tokens.ts'
import { revokeAllRoutes } from './routes/revoke-all.ts'
import { robotActionRoutes } from './routes/robot-actions.ts'
import { robotHistoryRoutes } from './routes/robot-history.ts'
import { robotRotationRoutes } from './routes/robot-rotation.ts'
import { robotRoutes } from './routes/robots.ts'
import { secretRoutes } from './routes/secrets.ts'
import { securityRoutes } from './routes/security.ts'
import { serviceRoutes } from './routes/service.ts'
import { sessionRoutes } from './routes/session.ts'
import { setupTokenRoutes } from './routes/setup-tokens.ts'
import { signInRoutes } from './routes/sign-in.ts'
import { siteRoutes } from './routes/sites.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { trailRoutes } from './routes/trails.ts'
import { userRoutes } from './routes/users.ts'
import { refuseUndescribed, validate } from './validation.ts'

const ROUTES: readonly ((app: App, parts: HttpParts) => void)[] = [
  serviceRoutes,
  installRoutes,
  signInRoutes,
  oidcRoutes,
  invitationRoutes,
  sessionRoutes,
  userRoutes,
  securityRoutes,
  enrolmentRoutes,
  siteRoutes,
  fleetRoutes,
  enrollmentKeyRoutes,
  provisioningTokenRoutes,
  setupTokenRoutes,
  approvalRoutes,
  robotRoutes,
  robotActionRoutes,
  robotRotationRoutes,
  robotHistoryRoutes,
  trailRoutes,
  liveRoutes,
  metricsRoutes,
  prometheusRoutes,
  auditRoutes,
  tokenRoutes,
  fleetTokenRoutes,
  revokeAllRoutes,
  secretRoutes,
]

const BODY_LIMIT_BYTES = 64 * 1024
const REQUEST_TIMEOUT_MS = 30_000
const HEADERS_TIMEOUT_MS = 15_000
/** How late the two above may strike; half a minute unless told otherwise. */
const TIMEOUT_CHECK_MS = 2_000
/** Longer than the idle time of common load balancers, so that they are the ones to let go. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000

/** One line for each request, with the route's pattern instead of an address that may hold what it should not. */
function observeRequests(app: FastifyInstance, { log, metrics }: Pick<HttpParts, 'log' | 'metrics'>): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown'
    const status = reply.statusCode
    const { method } = request
    if (status >= 400 || !request.routeOptions.config.lasts)
      metrics.httpSeconds.observe(
        { method, route, status: `${Math.floor(status / 100)}xx` },
        reply.elapsedTime / 1000,
      )
    const level = status < 400 && (method === 'GET' || method === 'HEAD') ? 'debug' : 'info'
    log[level](
      { method, route, status, ms: Math.round(reply.elapsedTime * 10) / 10, request_id: request.id },
      'request',
    )
  })
}

/** Refuses HTTP/1.1 without a Host, which it has to have. */
function demandHost(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw }) => {
    if (raw.headers.host === undefined && raw.httpVersion === '1.1')
      throw new BeaconError('invalid_request', 'HTTP/1.1 needs a Host header')
  })
}

/** Answers what is not even HTTP. */
function refuseGarbage(config: HttpParts['config'], error: Error & { code?: string }, socket: Socket): void {
  // Only what broke while HTTP was spoken: where TLS is not established, nothing can be said, and nothing ends by itself.
  if (!/^(HPE|ERR_HTTP)_/.test(error.code ?? '') || !socket.writable) {
    socket.destroy()
    return
  }
  const requestId = newId()
  const body = JSON.stringify(
    problemOf(new BeaconError('invalid_request', 'this is not HTTP as we speak it'), requestId),
  )
  const headers = {
    ...baseHeaders(config, requestId),
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 400 Bad Request\r\n${lines.join('')}\r\n${body}`)
}

function keepCertificateFresh(
  app: FastifyInstance,
  tls: TlsSettings,
  { clock, log }: Pick<HttpParts, 'clock' | 'log'>,
): void {
  const end = renewCertificate({
    server: app.server as unknown as TlsServer,
    tls,
    clock,
    onRenewed: () => log.info('operators are shown the new certificate'),
    onError: (error) => log.error({ err: error }, 'the certificate could not be renewed'),
  })
  app.addHook('onClose', async () => end())
}

/** Builds the REST edge; nothing listens before `listen` is called on it. */
export function createHttp(parts: HttpParts): FastifyInstance {
  const { config, log } = parts
  const http: ServerOptions & { shouldUpgradeCallback: HttpParts['takesUpgrade'] } = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // Node's own refusal would be no problem document, and without headers: see `demandHost`.
    requireHostHeader: false,
    // From Node 22.21 on.
    shouldUpgradeCallback: parts.takesUpgrade,
  }
  const app: FastifyInstance = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    ...(config.tls
      ? { https: { ...http, ...readCertificate(config.tls), handshakeTimeout: HEADERS_TIMEOUT_MS } }
      : { http }),
    trustProxy: config.trustedProxies.length > 0 ? proxyRule(config.trustedProxies) : false,
    genReqId: requestIdOf,
    clientErrorHandler: (error, socket) => refuseGarbage(config, error, socket),
    frameworkErrors: (error, request, reply) => {
      setBaseHeaders(config, request, reply)
      sendProblem(log, error, request, reply)
    },
  })
  if (config.tls) keepCertificateFresh(app, config.tls, parts)
  app.setValidatorCompiler(validate)
  // Answers are built field by field and typed by their schemas: what is stored goes out, whoever wrote it.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  app.setErrorHandler((error, request, reply) => {
    tellRefusal(parts, request, refusalFor(error))
    return sendProblem(log, error, request, reply)
  })
  app.addHook('onRequest', async (request, reply) => setBaseHeaders(config, request, reply))
  demandHost(app)
  observeRequests(app, parts)
  limitRequests(app, parts)
  browserSessions(app, parts)
  // Once the session of a request is there to be looked at.
  app.after(() => guardRoutes(app, parts))
  answerUnknown(app)
  acceptJson(app)
  refuseUndescribed(app)

  const typed = app.withTypeProvider<ZodTypeProvider>() as App
  documentRoutes(typed)
  documentationPage(typed)
  dashboard(app)
  typed.register(async (api) => {
    demandScopes(api)
    for (const routes of ROUTES) routes(api as App, parts)
  })
  return app
}
