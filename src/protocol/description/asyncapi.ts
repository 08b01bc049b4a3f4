import { robotFrameSchemas, serverFrameSchemas } from '../frames.ts'
import { HELLO_TIMEOUT_MS, MAX_FRAME_BYTES, SUBPROTOCOL } from '../limits.ts'
import { EXAMPLES } from './examples.ts'
import { type JsonSchema, jsonSchemaOf, MESSAGES, type MessageName } from './json-schema.ts'
import { MEANINGS } from './meanings.ts'

type Part = Readonly<Record<string, unknown>>

const ROBOT_FRAMES = Object.keys(robotFrameSchemas) as (keyof typeof robotFrameSchemas)[]
const SERVER_FRAMES = Object.keys(serverFrameSchemas) as (keyof typeof serverFrameSchemas)[]

/** What a robot sends that has an answer of its own. */
const ANSWERS: Partial<Record<(typeof ROBOT_FRAMES)[number], (typeof SERVER_FRAMES)[number]>> = {
  hello: 'welcome',
  heartbeat: 'ack',
  event: 'event_ack',
  token_rotated: 'token_rotation_ack',
}

const ref = (path: string) => ({ $ref: `#/${path}` })
const messageOf = (channel: string, name: MessageName) => ref(`channels/${channel}/messages/${name}`)

function entries<Name extends string>(names: readonly Name[], make: (name: Name) => Part): Part {
  return Object.fromEntries(names.map((name) => [name, make(name)]))
}

function message(name: MessageName): Part {
  return {
    name,
    title: name,
    summary: MEANINGS[name],
    contentType: 'application/json',
    payload: ref(`components/schemas/${name}`),
    examples: EXAMPLES[name].map((payload, index) => ({ name: `${name}_${index + 1}`, payload })),
  }
}

function schema(name: MessageName): JsonSchema {
  const { $schema: _, ...rest } = jsonSchemaOf(name)
  return rest
}

function operations(): Part {
  const sent = ROBOT_FRAMES.map((name) => {
    const answer = ANSWERS[name]
    const reply = answer && { channel: ref('channels/session'), messages: [messageOf('session', answer)] }
    const operation = {
      action: 'send',
      channel: ref('channels/session'),
      summary: MEANINGS[name],
      messages: [messageOf('session', name)],
      ...(reply ? { reply } : {}),
    }
    return [`send_${name}`, operation]
  })
  const received = SERVER_FRAMES.map((name) => {
    const operation = {
      action: 'receive',
      channel: ref('channels/session'),
      summary: MEANINGS[name],
      messages: [messageOf('session', name)],
    }
    return [`receive_${name}`, operation]
  })
  const claim = {
    action: 'send',
    channel: ref('channels/enrolment'),
    summary: 'Claims an identity for the robot. Refusals are problem documents: see errors.md.',
    bindings: { http: { method: 'POST', bindingVersion: '0.3.0' } },
    messages: [messageOf('enrolment', 'claim_request')],
    reply: {
      channel: ref('channels/enrolment'),
      messages: [messageOf('enrolment', 'claim_response')],
    },
  }
  return { claim, ...Object.fromEntries([...sent, ...received]) }
}

function server(protocol: string, description: string, scheme: string): Part {
  return {
    host: '{host}',
    protocol,
    description,
    variables: { host: { description: 'Host and port of the server.', default: 'beacon.example.com' } },
    security: [ref(`components/securitySchemes/${scheme}`)],
  }
}

/** The AsyncAPI 3.0 document of all that a robot and the server say to each other, from the robot's side. */
export function asyncApiDocument(): Part {
  const names = Object.keys(MESSAGES) as MessageName[]
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Beacon robot protocol',
      version: '1.0.0',
      description: `What a robot sends and receives. ../protocol.md says how it has to behave: what acknowledgements mean, when to come back, and when to stop. Every frame is one JSON object in one text message of at most ${MAX_FRAME_BYTES} bytes of UTF-8; unknown types and fields are ignored.`,
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      gateway: server(
        'wss',
        'Where sessions are opened: `gateway_url` of the claim’s answer.',
        'robot_token',
      ),
      control_plane: server('https', 'Where robots enrol.', 'claim_credential'),
    },
    channels: {
      session: {
        address: '/agent/ws',
        title: 'The robot’s session',
        description: `Offer the subprotocol ${SUBPROTOCOL}; send hello within ${HELLO_TIMEOUT_MS / 1000} s.`,
        servers: [ref('servers/gateway')],
        messages: entries([...ROBOT_FRAMES, ...SERVER_FRAMES], (name) => ref(`components/messages/${name}`)),
        bindings: {
          ws: {
            method: 'GET',
            headers: {
              type: 'object',
              properties: {
                Authorization: { type: 'string', pattern: '^Bearer rf_robot_[0-9a-f]{72}$' },
                'Sec-WebSocket-Protocol': { type: 'string', const: SUBPROTOCOL },
              },
              required: ['Authorization', 'Sec-WebSocket-Protocol'],
            },
            bindingVersion: '0.1.0',
          },
        },
      },
      enrolment: {
        address: '/agent/enroll',
        title: 'Enrolment',
        description: 'One request over HTTP.',
        servers: [ref('servers/control_plane')],
        messages: entries(['claim_request', 'claim_response'] as const, (name) =>
          ref(`components/messages/${name}`),
        ),
      },
    },
    operations: operations(),
    components: {
      messages: entries(names, message),
      schemas: entries(names, schema),
      securitySchemes: {
        robot_token: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'rf_robot_<64 hex><crc>',
          description: 'The robot’s own token.',
        },
        claim_credential: {
          type: 'http',
          scheme: 'bearer',
          description:
            'An enrollment key (`rf_enroll_…`), provisioning token (`apt_…`) or setup token (`rf_setup_…`).',
        },
      },
    },
  }
}
