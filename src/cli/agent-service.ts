import type { Command } from 'commander'
import type { AgentOutput } from '../../agent/main.ts'
import type { InstallFlags, UninstallFlags } from '../../agent/service/command.ts'

const INSTALL_HELP = `
The service runs as a user of its own, which systemd makes up, in a file system it cannot write. Its identity is kept in
/var/lib/beacon/agent.toml, its settings in /etc/beacon/agent.env; with --user, in ~/.config/roboflare. The key is left
there for the agent alone, which removes it once the robot is enrolled. Where no systemd runs (a container, the image of a
disk) all is written, and the service starts at the next boot. Installing again updates what is there.

  beacon agent install --server https://beacon.example --enrollment-key-file - < key`

/** Adds `agent install` and `agent uninstall`. */
export function addServiceCommands(agent: Command, output: () => AgentOutput): void {
  agent
    .command('install')
    .description('run the agent as a service of systemd, from boot on')
    .option('--user', "as a service of this user, not of the machine's")
    .option('--server <url>', 'address of the control plane (BEACON_SERVER)')
    .option('--enrollment-key-file <file>', 'file that holds the key to enrol with; - is standard input')
    .option('--setup-token-file <file>', 'file that holds the setup token; - is standard input')
    .option('--name <name>', 'name the robot asks for (BEACON_NAME)')
    .option('--set <NAME=value>', 'another setting for the service; may be given several times', collect, [])
    .option('--root <folder>', 'install into the system whose disk is mounted there')
    .option('--no-start', 'let it start at the next boot, not now')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--json', 'answer with JSON')
    .addHelpText('after', INSTALL_HELP)
    .action(async (flags: InstallFlags) => {
      const { installAgent } = await import('../../agent/main.ts')
      process.exitCode = await installAgent(flags, process.env, output(), await programOf(agent))
    })

  agent
    .command('uninstall')
    .description('stop the service and take it away; the identity stays')
    .option('--user', "this user's service, not the machine's")
    .option('--purge', 'remove the identity, the settings and the key, too')
    .option('--root <folder>', 'from the system whose disk is mounted there')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--json', 'answer with JSON')
    .action(async (flags: UninstallFlags) => {
      const { uninstallAgent } = await import('../../agent/main.ts')
      process.exitCode = await uninstallAgent(flags, process.env, output())
    })
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value]
}

/** What starts these commands: an executable that holds all, or Node and a file; then `agent`, unless that is all it does. */
async function programOf(agent: Command): Promise<string[]> {
  const { isSea } = await import('node:sea')
  const start = isSea() ? [process.execPath] : [process.execPath, process.argv[1]!]
  return agent.parent ? [...start, agent.name()] : start
}
