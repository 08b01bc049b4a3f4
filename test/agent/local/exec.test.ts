import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { EventQueue } from '../../../agent/events.ts'
import { ExecRunner } from '../../../agent/local/exec.ts'
import { execEnvironment } from '../../../agent/local/exec-environment.ts'
import { intervalIn, readExecFolder } from '../../../agent/local/exec-files.ts'
import { runProgram } from '../../../agent/local/exec-run.ts'
import { RobotSoftware } from '../../../agent/local/software.ts'
import { systemClock, systemRandom } from '../../../agent/runtime.ts'
import { ManualClock } from '../../support/clock.ts'
import { eventually } from '../../support/eventually.ts'
import { temporaryFolder } from '../support/agent-process.ts'
import { serverTimeFor } from '../support/server-time.ts'
import { silentLog } from '../support/silent-log.ts'

const ENV = { PATH: '/usr/bin:/bin' }

function program(folder: string, name: string, script: string, mode = 0o755): string {
  const path = join(folder, name)
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, mode)
  return path
}

function run(
  script: string,
  bounds = { timeoutMs: 20_000, outputBytes: 1_000 },
  signal = new AbortController().signal,
) {
  return runProgram(program(temporaryFolder(), 'it', script), ENV, systemClock, signal, bounds)
}

/** Ended, or a zombie that nobody has collected yet. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}

async function pidIn(file: string): Promise<number> {
  await eventually(() => existsSync(file) && readFileSync(file, 'utf8').trim() !== '')
  return Number(readFileSync(file, 'utf8'))
}

describe('one run', () => {
  test('gives the lines of standard output', async () => {
    expect(await run('echo \'{"mode":"a"}\'; echo; echo b; echo not this >&2')).toEqual({
      failure: undefined,
      lines: ['{"mode":"a"}', 'b'],
    })
  })

  test('that fails says why, with the end of what it said on standard error', async () => {
    expect((await run('echo half; echo no such sensor >&2; exit 3')).failure).toBe(
      'exit code 3: no such sensor',
    )
    expect((await run('kill -9 $$')).failure).toBe('ended by SIGKILL')
    const missing = await runProgram('/nowhere/it', ENV, systemClock, new AbortController().signal)
    expect(missing.failure).toMatch(/^exit code 127: .*not found/)
  })

  test('that takes too long is killed with all that it started', async () => {
    const file = join(temporaryFolder(), 'pid')
    const outcome = await run(`sleep 1000 & echo $! > ${file}; wait`, {
      timeoutMs: 1_000,
      outputBytes: 1_000,
    })
    expect(outcome.failure).toMatch(/still running after 1 s: killed/)
    const pid = await pidIn(file)
    await eventually(() => isGone(pid), 'the end of its child')
  })

  test('that ends leaves nothing behind', async () => {
    const file = join(temporaryFolder(), 'pid')
    expect((await run(`sleep 1000 & echo $! > ${file}`)).failure).toBeUndefined()
    const pid = await pidIn(file)
    await eventually(() => isGone(pid), 'the end of its child')
  })

  test('that says too much is killed', async () => {
    const outcome = await run('yes')
    expect(outcome.failure).toMatch(/more than 1000 bytes/)
    expect(outcome.lines.join('\n').length).toBeLessThanOrEqual(1_000)
  })

  test('is killed when the agent stops', async () => {
    const stop = new AbortController()
    const file = join(temporaryFolder(), 'pid')
    const running = run(`echo $$ > ${file}; sleep 1000`, undefined, stop.signal)
    const pid = await pidIn(file)
    stop.abort()
    expect((await running).failure).toBe('the agent stopped')
    expect(isGone(pid)).toBe(true)
  })
})

describe('which files are run', () => {
  test('plain programs that nobody else can write; the others are named', () => {
    const folder = temporaryFolder()
    program(folder, '30s-arm', '')
    program(folder, 'disk.sh', '')
    program(folder, 'notes.txt', '', 0o644)
    program(folder, 'open', '', 0o777)
    program(folder, 'old.bak', '')
    program(folder, '.hidden', '')
    symlinkSync('/bin/true', join(folder, 'link'))
    mkdirSync(join(folder, 'folder'))
    expect(readExecFolder(folder, 60_000, process.getuid!())).toEqual({
      files: [
        { name: '30s-arm', path: join(folder, '30s-arm'), everyMs: 30_000 },
        { name: 'disk.sh', path: join(folder, 'disk.sh'), everyMs: 60_000 },
      ],
      skipped: [
        { name: 'link', why: 'is a symbolic link' },
        { name: 'open', why: 'can be written by other users' },
      ],
    })
    // The files are root's in this case, or of this user: in any case not of 4242 alone.
    const asOther = readExecFolder(folder, 60_000, 4242)
    if (process.getuid!() !== 0) expect(asOther.files).toEqual([])
  })

  test('none of a folder that others can write, and none where there is no folder', () => {
    const folder = temporaryFolder()
    program(folder, 'arm', '')
    chmodSync(folder, 0o775)
    expect(readExecFolder(folder, 60_000, process.getuid!())).toEqual({
      files: [],
      skipped: [{ name: folder, why: 'the folder can be written by other users' }],
    })
    expect(readExecFolder(join(folder, 'none'), 60_000, 0)).toEqual({ files: [], skipped: [] })
  })

  test('the interval stands in the name, within reason', () => {
    expect(intervalIn('5m-disk', 1_000)).toBe(300_000)
    expect(intervalIn('2h-x', 1_000)).toBe(7_200_000)
    expect(intervalIn('0s-x', 5_000)).toBe(1_000)
    expect(intervalIn('999999h-x', 5_000)).toBe(86_400_000)
    expect(intervalIn('5m', 5_000)).toBe(5_000)
  })
})

test('a program gets no secret of the agent, and nothing that is the service’s alone', () => {
  const env = {
    HOME: '/home/robot',
    ROS_DOMAIN_ID: '7',
    LD_LIBRARY_PATH: '/opt/ros/lib',
    BEACON_ENROLLMENT_KEY: `rf_enroll_${'a'.repeat(64)}`,
    BEACON_CONFIG: '/x',
    RENAMED: `rf_robot_${'b'.repeat(64)}`,
    HTTPS_PROXY: 'http://user:word@proxy:3128',
    GITHUB_TOKEN: 'x',
    AWS_SECRET_ACCESS_KEY: 'x',
    DB_PASSWORD: 'x',
    API_KEY: 'x',
    NOTIFY_SOCKET: '/run/notify',
    CREDENTIALS_DIRECTORY: '/run/credentials/x',
    NODE_OPTIONS: '--inspect',
    KEYBOARD: 'de',
  }
  expect(execEnvironment(env, '/run/beacon/agent.sock')).toEqual({
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: '/home/robot',
    ROS_DOMAIN_ID: '7',
    LD_LIBRARY_PATH: '/opt/ros/lib',
    KEYBOARD: 'de',
    BEACON_AGENT_SOCKET: '/run/beacon/agent.sock',
  })
})

describe('the runner', () => {
  function runnerOf(folder: string) {
    const clock = new ManualClock()
    const software = new RobotSoftware({
      clock,
      serverTime: serverTimeFor(clock),
      random: systemRandom,
      events: new EventQueue(clock),
      faultStore: { read: () => [], write() {} },
    })
    const runner = new ExecRunner({
      folder,
      defaultEveryMs: 60_000,
      env: ENV,
      ownUid: process.getuid!(),
      software,
      clock,
      serverTime: serverTimeFor(clock),
      random: { ...systemRandom, fraction: () => 0 },
      log: silentLog,
    })
    onTestFinished(() => runner.stop())
    runner.start()
    const statusOf = (name: string) => runner.status.programs.find((status) => status.name === name)
    return { clock, software, runner, statusOf }
  }

  test('runs each at its interval, hears what it says, and takes up and drops files while it goes', async () => {
    const folder = temporaryFolder()
    program(folder, '10s-arm', 'echo \'{"metric":{"arm":1}}\'')
    const { clock, software, statusOf } = runnerOf(folder)
    clock.advance(0)
    await eventually(() => statusOf('10s-arm')?.runs === 1 && !statusOf('10s-arm')!.running)
    expect(software.read().metrics).toEqual({ arm: 1 })
    expect(statusOf('10s-arm')).toMatchObject({ every_s: 10, failures: 0, last_error: null })

    program(folder, 'late', 'echo \'{"metric":{"late":1}}\'')
    clock.advance(10_000)
    clock.advance(0)
    await eventually(() => software.read().metrics?.late === 1)
    await eventually(() => statusOf('10s-arm')?.runs === 2)
    chmodSync(join(folder, 'late'), 0o644)
    await eventually(() => statusOf('late')?.running === false)
    clock.advance(10_000)
    expect(statusOf('late')).toBeUndefined()
  })

  test('never runs one twice at a time', async () => {
    const folder = temporaryFolder()
    const started = join(folder, 'started')
    mkdirSync(started)
    const programs = join(folder, 'programs')
    mkdirSync(programs, { mode: 0o755 })
    const gate = join(folder, 'gate')
    program(programs, '1s-slow', `touch ${started}/$$; while [ ! -e ${gate} ]; do sleep 0.02; done`)
    const { clock, statusOf } = runnerOf(programs)
    clock.advance(0)
    await eventually(() => statusOf('1s-slow')?.running === true)
    for (let second = 0; second < 20; second++) await clock.pass(1_000)
    expect(statusOf('1s-slow')).toMatchObject({ running: true, runs: 1 })
    writeFileSync(gate, '')
    await eventually(() => statusOf('1s-slow')?.running === false)
    // What was missed is not made up for.
    await clock.pass(999)
    expect(statusOf('1s-slow')!.runs).toBeLessThanOrEqual(2)
  })

  test('makes a fault of the third failure in a row, and ends it with the first success', async () => {
    const folder = temporaryFolder()
    const programs = join(folder, 'programs')
    mkdirSync(programs, { mode: 0o755 })
    const works = join(folder, 'works')
    program(
      programs,
      '10s-arm',
      `[ -e ${works} ] && exit 0; echo 'token ${`rf_robot_${'a'.repeat(64)}`}' >&2; exit 1`,
    )
    program(programs, '10s-liar', 'echo \'{"metric":{"Arm":1}}\'')
    const { clock, runner, statusOf } = runnerOf(programs)
    const turn = async (runs: number) => {
      await clock.pass(runs === 1 ? 0 : 10_000, 1_000)
      clock.advance(0)
      for (const name of ['10s-arm', '10s-liar'])
        await eventually(
          () => statusOf(name)?.runs === runs && !statusOf(name)!.running,
          `${name}: run ${runs}`,
        )
    }
    await turn(1)
    await turn(2)
    expect(runner.faults).toEqual([])
    await turn(3)
    expect(runner.faults).toMatchObject([
      {
        code: 'exec:10s-arm',
        level: 'warn',
        message: expect.stringMatching(/failed 3 times in a row: exit code 1/),
      },
      { code: 'exec:10s-liar', message: expect.stringMatching(/line 1: metric.*lower-case/) },
    ])
    expect(JSON.stringify(runner.status) + JSON.stringify(runner.faults)).not.toContain('aaaaaa')
    writeFileSync(works, '')
    await turn(4)
    expect(runner.faults.map(({ code }) => code)).toEqual(['exec:10s-liar'])
    expect(statusOf('10s-arm')).toMatchObject({ failures: 0, last_error: null })
  })
})
