import { Secret } from '../ui/copy.tsx'

/** The line that installs the agent and enrols the robot. */
export function InstallCommand({ command }: { command: string }) {
  const isLocal = /\/\/(localhost|127\.|\[::1\])/.test(command)
  return (
    <>
      <Secret
        text={command}
        what="On the robot"
        note="Whoever has this line can enrol a robot with the key. Add --name warehouse-bot-01 to name it; without it the robot goes by its hostname."
      />
      {isLocal && (
        <p class="notice small" data-tone="warn">
          This address is good on this machine only. Start the server with BEACON_HOST and BEACON_PUBLIC_URL
          so that robots can reach it.
        </p>
      )}
    </>
  )
}
