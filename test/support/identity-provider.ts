import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import Provider, { type Configuration } from 'oidc-provider'
import type { OidcSettings } from '../../src/config.ts'

export const CALLBACK = 'http://localhost/api/sign-in/oidc/callback'
const CLIENT = { clientId: 'beacon', clientSecret: 'a secret of the client' }

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

const settingsFor = (issuer: string): OidcSettings => ({
  issuer,
  ...CLIENT,
  scopes: 'openid email',
  secondFactorValues: [],
})

export interface Account {
  email?: string
  email_verified?: boolean
}

/** A real OpenID provider over HTTP, with accounts that can be changed, and pages that can be filled in. */
export async function startProvider({ callback = CALLBACK } = {}) {
  const accounts = new Map<string, Account>()
  const server = createServer()
  const issuer = await listen(server)
  const configuration: Configuration = {
    clients: [
      {
        client_id: CLIENT.clientId,
        client_secret: CLIENT.clientSecret,
        redirect_uris: [callback],
        response_types: ['code'],
        grant_types: ['authorization_code'],
      },
    ],
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    pkce: { required: () => true },
    cookies: { keys: ['only for tests'] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, ...accounts.get(id) }),
    }),
  }
  const provider = new Provider(issuer, configuration)
  server.on('request', provider.callback())
  return {
    issuer,
    settings: settingsFor(issuer),
    accounts,
    close: () => close(server),
    /** Signs in at the provider's pages as a person would; answers with where it sends the browser. */
    visit: (url: string, login: string | 'nobody') => visit(issuer, url, login),
  }
}

/** Follows the provider's redirects and fills in its forms, until it sends the browser back to us. */
async function visit(issuer: string, start: string, login: string): Promise<string> {
  const cookies = new Map<string, string>()
  let url = start
  let body: URLSearchParams | undefined
  for (let steps = 0; steps < 20; steps++) {
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      ...(body ? { method: 'POST', body } : {}),
    })
    for (const cookie of response.headers.getSetCookie()) {
      const [name = '', value = ''] = cookie.split(';', 1)[0]!.split('=')
      cookies.set(name, value)
    }
    body = undefined
    const location = response.headers.get('location')
    const text = await response.text()
    if (location !== null) {
      url = new URL(location, issuer).href
      if (!url.startsWith(issuer)) return url
      continue
    }
    const action = /<form[^>]*action="([^"]+)"/.exec(text)?.[1]
    if (action === undefined)
      throw new Error(`the provider answered ${response.status}: ${text.slice(0, 500)}`)
    if (login === 'nobody') {
      url = new URL(/href="([^"]+\/abort)"/.exec(text)![1]!, issuer).href
      continue
    }
    const prompt = /name="prompt" value="(\w+)"/.exec(text)![1]!
    body = new URLSearchParams({ prompt, ...(prompt === 'login' ? { login, password: 'any' } : {}) })
    url = new URL(action, issuer).href
  }
  throw new Error('the provider sends the browser around in a circle')
}

interface Forgery {
  /** Undefined ones are left out. */
  readonly claims?: Readonly<Record<string, unknown>>
  /** Signed by a key that the provider does not publish, or by none. */
  readonly signature?: 'foreign' | 'none'
  readonly withoutIdToken?: true
}

/** A provider that answers as it is told: whoever comes is let in at once. */
export async function startForger() {
  const own = await generateKeyPair('RS256')
  const foreign = await generateKeyPair('RS256')
  const jwk = { ...(await exportJWK(own.publicKey)), kid: 'own', alg: 'RS256', use: 'sig' }
  let forgery: Forgery = {}
  let nonce = ''
  let discoverable = true
  /** What came with the last exchange of a code. */
  const exchanges: URLSearchParams[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const json = (value: unknown, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    if (request.url === '/.well-known/openid-configuration') {
      if (!discoverable) return json({ error: 'no' }, 500)
      return json({
        issuer,
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
      })
    }
    if (request.url === '/jwks') return json({ keys: [jwk] })
    exchanges.push(new URLSearchParams(Buffer.concat(chunks).toString()))
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: issuer,
      aud: CLIENT.clientId,
      sub: 'one',
      iat: now,
      exp: now + 60,
      nonce,
      ...forgery.claims,
    }
    const token =
      forgery.signature === 'none'
        ? new UnsecuredJWT(claims).encode()
        : await new SignJWT(claims)
            .setProtectedHeader({ alg: 'RS256', kid: 'own' })
            .sign((forgery.signature === 'foreign' ? foreign : own).privateKey)
    json({
      access_token: 'an access token',
      token_type: 'bearer',
      ...(forgery.withoutIdToken ? {} : { id_token: token }),
    })
  })
  const issuer = await listen(server)
  return {
    issuer,
    settings: settingsFor(issuer),
    exchanges,
    close: () => close(server),
    forge(next: Forgery) {
      forgery = next
    },
    setDiscoverable(value: boolean) {
      discoverable = value
    },
    /** Lets the browser in; answers with where it is sent. */
    visit(start: string, { state }: { state?: string } = {}): string {
      const asked = new URL(start).searchParams
      nonce = asked.get('nonce') ?? ''
      const back = new URL(asked.get('redirect_uri')!)
      back.search = new URLSearchParams({ code: 'a code', state: state ?? asked.get('state')! }).toString()
      return back.href
    },
  }
}
