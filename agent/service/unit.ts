import type { Layout } from './layout.ts'
import { environmentWord, unitPath, unitWord } from './quoting.ts'

export interface UnitWish {
  readonly layout: Layout
  /** What starts the agent, with absolute paths. */
  readonly command: readonly string[]
  /** Of systemd; undefined where it could not be asked. */
  readonly version: number | undefined
  /** `systemd-notify` is there, so that the agent can speak to systemd. */
  readonly hasNotify: boolean
  /** The group that may use the local socket; undefined: there is none. */
  readonly group: string | undefined
}

/** Before it, what systemd-notify says may be lost: it did not wait until it was heard. */
export const NOTIFY_VERSION = 246
/** The first with RestartSteps= and ImportCredential=. */
export const STEPS_VERSION = 254

/** The agent's unit file. */
export function unitText(wish: UnitWish): string {
  const { layout } = wish
  const isSystem = layout.scope === 'system'
  const edit = isSystem ? 'systemctl edit beacon-agent' : 'systemctl --user edit beacon-agent'
  return [
    `# Written by "beacon agent install", which replaces it. For changes that stay: "${edit}".`,
    '[Unit]',
    'Description=Beacon agent, which keeps this robot connected to its control plane',
    // After the target that wants it, so that nothing of the boot waits for a robot without network.
    ...(isSystem ? ['After=network.target multi-user.target'] : []),
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    ...speaking(wish),
    `ExecStart=${wish.command.map(unitWord).join(' ')}`,
    `Environment=${environmentWord(`BEACON_CONFIG=${layout.config}`)}`,
    `EnvironmentFile=-${unitPath(layout.environmentFile)}`,
    '',
    ...restarting(wish.version),
    'KillMode=mixed',
    // Not the program's, which is Node: its lines are found by this name.
    'SyslogIdentifier=beacon-agent',
    'TimeoutStopSec=15s',
    '',
    ...(isSystem ? systemConfinement(wish) : USER_CONFINEMENT),
    '',
    '[Install]',
    `WantedBy=${layout.wantedBy}`,
    '',
  ].join('\n')
}

function speaking({ hasNotify, version }: UnitWish): string[] {
  if (!hasNotify || (version !== undefined && version < NOTIFY_VERSION)) return ['Type=simple']
  return [
    '# It is ready with the first acknowledgement, and after a minute without one: no network is no failure.',
    'Type=notify',
    'NotifyAccess=all',
    'TimeoutStartSec=3min',
    'WatchdogSec=3min',
  ]
}

function restarting(version: number | undefined): string[] {
  const growing = ['RestartSec=1s', 'RestartSteps=8', 'RestartMaxDelaySec=5min']
  return [
    '# 3: refused for good; 5: somebody else is this robot. Only a person can help with these.',
    'Restart=always',
    'RestartPreventExitStatus=3 5',
    ...(version !== undefined && version >= STEPS_VERSION ? growing : ['RestartSec=10s']),
  ]
}

/** Node compiles at run time, so MemoryDenyWriteExecute= cannot be among these. */
const CONFINEMENT = [
  '# A core dump holds the token.',
  'LimitCORE=0',
  'UMask=0077',
  'NoNewPrivileges=yes',
  'LockPersonality=yes',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'SystemCallArchitectures=native',
]

const USER_CONFINEMENT = CONFINEMENT

function systemConfinement({ command, group, version }: UnitWish): string[] {
  return [
    'DynamicUser=yes',
    'User=beacon-agent',
    ...(group === undefined ? [] : [`Group=${group}`]),
    'StateDirectory=beacon',
    'StateDirectoryMode=0700',
    'RuntimeDirectory=beacon',
    'RuntimeDirectoryMode=0750',
    ...(version !== undefined && version >= STEPS_VERSION ? ['ImportCredential=beacon.*'] : []),
    'CapabilityBoundingSet=',
    'AmbientCapabilities=',
    'ProtectSystem=strict',
    `ProtectHome=${command.some(isInHome) ? 'read-only' : 'yes'}`,
    'PrivateTmp=yes',
    '# Scripts of this robot that read devices: set PrivateDevices=no and SupplementaryGroups= with the edit above.',
    'PrivateDevices=yes',
    'ProtectClock=yes',
    'ProtectControlGroups=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    'ProtectProc=invisible',
    'RemoveIPC=yes',
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged',
    'SystemCallErrorNumber=EPERM',
    ...CONFINEMENT,
  ]
}

function isInHome(word: string): boolean {
  return /^\/(home|root|run\/user)\//.test(word)
}
