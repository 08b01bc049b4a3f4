import type { Command } from 'commander'
import { descriptorLimit } from '../../descriptor-limit.ts'
import { EXIT } from '../failure.ts'

const SETTINGS = `
Settings, from the environment (secrets also as NAME_FILE, the path of a file that holds them):
  BEACON_HOST               address to listen on (127.0.0.1)
  BEACON_PORT               port to listen on (8080; 0 takes a free one)
  BEACON_PUBLIC_URL         where robots and operators reach the server from outside
  BEACON_DATA_DIR           folder for its data (/var/lib/beacon-server as root, else ~/.local/share/beacon)
  BEACON_DATABASE_URL       PostgreSQL 15 to 18; without it the server runs one of its own in the data folder
  BEACON_DATABASE_OWNER_URL for migrations: the owner of the tables, where BEACON_DATABASE_URL is to have fewer rights
  BEACON_ADMIN_TOKEN        the owner's token on an empty database (without it, one is made and printed)
  BEACON_SECRET_KEY         32 bytes, hex or base64; seals retrievable keys (made in the data folder when absent)
  BEACON_SECRET_KEY_PREVIOUS  keys that only open, separated by commas: see "beacon secrets rotate --help"
  BEACON_TRUSTED_PROXIES    addresses or CIDR ranges whose X-Forwarded-For is believed
  BEACON_REQUESTS_PER_SECOND  how often one token may ask, with ten seconds' worth at once (300; 0: as often as it likes)
  BEACON_LOG_LEVEL          fatal, error, warn, info, debug, trace or silent (info)
  BEACON_HEARTBEAT_SECONDS  how often robots report (10)
  BEACON_HISTORY_HOURS      how long heartbeats are kept (48)
  BEACON_GATEWAY_ENGINE     ws, uws (needs uWebSockets.js or @uwsjs/core), or auto: uws where it is installed (auto)
  BEACON_GATEWAY_PORT       port for robots with uws or several processes (the one after BEACON_PORT; 0 takes a free one)
  BEACON_GATEWAY_PROCESSES  how many processes hold robots; auto: one for each processor (1: the server itself)
  BEACON_SESSIONS_PER_SECOND  how many robot sessions are opened in a second, by all together (1000 for each processor used; 0: all)
  BEACON_RECONNECT_SPREAD_SECONDS  over how long robots come back that lost the server without a word, 0 to 120
                            (auto: as long as it takes to let all of them in)
  BEACON_TLS_CERT_FILE      certificate and chain in PEM, for both ports; and BEACON_TLS_KEY_FILE
  BEACON_BUS                local or postgres: how several servers tell each other (postgres with a database URL)
  BEACON_OIDC_ISSUER        an OpenID Connect provider that people may sign in with
  BEACON_OIDC_CLIENT_ID     what it calls this server; and BEACON_OIDC_CLIENT_SECRET
  BEACON_OIDC_SCOPES        what it is asked for (openid email)
  BEACON_OIDC_SECOND_FACTOR values of its amr or acr that count as a second factor, separated by commas (none)

It prints one line that starts with "beacon ready" on standard output when it takes requests, logs JSON to standard
error, and ends with 0 after SIGTERM or SIGINT.

Examples:
  beacon server
  BEACON_HOST=0.0.0.0 BEACON_DATABASE_URL_FILE=/run/secrets/database_url beacon server`

/** What the server takes to load its modules, all of which it reads at once, and to serve anybody from then on. */
const DESCRIPTORS_TO_START = 512

/** Why the server cannot even be loaded here, or undefined. What fails later fails with the name of some module. */
function lackOfDescriptors(): string | undefined {
  const limit = descriptorLimit()
  if (limit === undefined || limit >= DESCRIPTORS_TO_START) return undefined
  return (
    `a process may have only ${limit} files and sockets open here, and the server needs ${DESCRIPTORS_TO_START}, and one ` +
    'more for each robot: raise the hard limit (ulimit -Hn; LimitNOFILE= in a systemd unit; --ulimit nofile= of Docker)'
  )
}

/** `beacon server`: the control plane itself. */
export function addServerCommand(program: Command, finish: (exitCode: number) => void): void {
  program
    .command('server')
    .description('run the control plane')
    .addHelpText('after', SETTINGS)
    .action(async () => {
      const lack = lackOfDescriptors()
      if (lack !== undefined) {
        process.stderr.write(`beacon: ${lack}\n`)
        finish(EXIT.error)
        return
      }
      const { runServer } = await import('../../main.ts')
      finish(await runServer())
    })
}
