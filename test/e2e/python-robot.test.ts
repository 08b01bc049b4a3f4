import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { isCheckedToken } from '../../src/protocol/tokens.ts'
import { eventually } from '../support/eventually.ts'
import { type PythonProcess, pythonOrLeaveOut, startPython } from '../support/python.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const ROBOT = join(import.meta.dirname, '../../docs/examples/robot.py')
const python = pythonOrLeaveOut('the robot in Python against the real server')

interface Kept {
  readonly robot_id: string
  readonly token: string
  readonly next_token?: string | null
  readonly claim_id: string
  readonly seq_mark: number
  readonly waiting?: readonly unknown[]
}

test('it is a program of at most 150 lines', () => {
  expect(readFileSync(ROBOT, 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(150)
})

describe.skipIf(python === undefined)('the robot in Python', () => {
  let scene: Scene
  const folders: string[] = []
  const running: PythonProcess[] = []

  beforeAll(async () => {
    scene = await startScene()
  })
  afterEach(async () => {
    await Promise.all(running.splice(0).map((robot) => robot.kill()))
  })
  afterAll(async () => {
    await scene?.end()
    await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })))
  })

  async function newFolder(): Promise<string> {
    const folder = join(await mkdtemp(join(tmpdir(), 'beacon-python-')), 'state')
    folders.push(folder)
    return folder
  }

  const kept = (folder: string) => JSON.parse(readFileSync(join(folder, 'robot.json'), 'utf8')) as Kept

  function start(folder: string, name: string, key?: string, server = scene.servers[0]!.url): PythonProcess {
    const argv = [ROBOT, '--server', server, '--state', folder, '--name', name]
    const robot = startPython(python!, argv, key === undefined ? {} : { BEACON_ENROLLMENT_KEY: key })
    running.push(robot)
    return robot
  }

  /** Enrols a new one, and waits until its heartbeats are in PostgreSQL. */
  async function started(name: string) {
    const folder = await newFolder()
    const { key_value } = await scene.operator.key(scene.site, scene.fleet)
    const robot = start(folder, name, key_value)
    const id = await eventually(() => {
      try {
        return kept(folder).robot_id
      } catch {
        return undefined
      }
    }, robot.output)
    const beats = async (more: number) => {
      const before = (await storedHeartbeats(scene.database.pool, id)).length
      await eventually(
        async () => (await storedHeartbeats(scene.database.pool, id)).length >= before + more,
        `heartbeats of ${robot.output}`,
      )
    }
    await beats(3)
    return { robot, folder, id, beats }
  }

  test('enrols, comes online, beats into PostgreSQL, says goodbye, and goes on where it was', async () => {
    const { robot, folder, id } = await started('py-1')
    expect(statSync(join(folder, 'robot.json')).mode & 0o777).toBe(0o600)
    const { token } = kept(folder)
    expect(isCheckedToken('robot', token)).toBe(true)
    expect(await scene.operator.robot(id)).toMatchObject({
      name: 'py-1',
      connection: 'online',
      session_no: 1,
    })
    expect(robot.output).not.toContain(token)

    expect(await robot.stop()).toBe(0)
    await eventually(async () => (await scene.operator.robot(id)).connection === 'offline')
    const before = await storedHeartbeats(scene.database.pool, id)

    // Without the key: it has its identity.
    const again = start(folder, 'py-1')
    await eventually(async () => (await storedHeartbeats(scene.database.pool, id)).length > before.length + 1)
    const after = await storedHeartbeats(scene.database.pool, id)
    expect(after.slice(0, before.length)).toEqual(before)
    expect(new Set(after.map((beat) => beat.seq)).size).toBe(after.length)
    expect(await again.stop()).toBe(0)
  })

  test('returns after the server was restarted, and brings what happened meanwhile', async () => {
    const { id, beats } = await started('py-2')
    const [server] = scene.servers
    const { ports } = server!
    expect(await server!.stop()).toBe(0)
    const stoppedAt = Date.now()
    await scene.addServer(ports)
    const readyAt = Date.now()
    await beats(3)
    await eventually(async () => (await scene.operator.robot(id)).connection === 'online')
    expect(Number((await scene.operator.robot(id)).session_no)).toBeGreaterThanOrEqual(2)
    const meanwhile = (await storedHeartbeats(scene.database.pool, id)).filter(
      ({ at }) => at.getTime() > stoppedAt && at.getTime() < readyAt,
    )
    expect(meanwhile.length).toBeGreaterThanOrEqual(1)
  })

  test('makes itself another token when it is asked to, and the old one is void', async () => {
    const { folder, id, beats, robot } = await started('py-3')
    const { token } = kept(folder)
    await scene.operator.must('POST', `/api/robots/${id}/rotate-token`)
    await eventually(() => kept(folder).token !== token && kept(folder).next_token === null, robot.output)
    await beats(2)
    const { rows } = await scene.database.pool.query('SELECT token_hash FROM robots WHERE id = $1', [id])
    expect(rows[0].token_hash).toEqual(createHash('sha256').update(kept(folder).token).digest())
  })

  test('stops with 3 when its token was revoked, and again when it is started again', async () => {
    const { robot, folder, id } = await started('py-4')
    await scene.operator.must('POST', `/api/robots/${id}/revoke-token`)
    expect(await robot.exited).toBe(3)
    expect(await start(folder, 'py-4').exited).toBe(3)
  })

  test('stops with 5 when a copy of it connects', async () => {
    const { robot, folder } = await started('py-5')
    start(folder, 'py-5')
    expect(await robot.exited).toBe(5)
  })

  test('stops with 3 when the key is refused, and with 2 without one', async () => {
    const folder = await newFolder()
    const robot = start(folder, 'py-6', `rf_enroll_${'0'.repeat(64)}`)
    expect(await robot.exited).toBe(3)
    expect(robot.output).toContain('invalid_token')
    expect(await start(folder, 'py-6').exited).toBe(2)
  })

  test('killed while its claim is on the way, it makes the same claim again and is one robot', async () => {
    const folder = await newFolder()
    const { key_value, id: keyId } = await scene.operator.key(scene.site, scene.fleet, { max_uses: 1 })
    const server = scene.servers.at(-1)!.url
    // Takes the claim to the server, and never brings the answer.
    let granted = 0
    const thief = createServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', async () => {
        const { authorization = '' } = request.headers
        const headers = { authorization, 'content-type': 'application/json' }
        const body = Buffer.concat(parts).toString()
        const answer = await fetch(`${server}${request.url}`, { method: 'POST', headers, body })
        granted = answer.status
        response.destroy()
      })
    })
    await new Promise<void>((resolve) => void thief.listen(0, '127.0.0.1', resolve))
    const robot = start(
      folder,
      'py-7',
      key_value,
      `http://127.0.0.1:${(thief.address() as AddressInfo).port}`,
    )
    await eventually(() => granted === 201, robot.output)
    await robot.kill()
    thief.close()
    expect(kept(folder).robot_id).toBeUndefined()

    start(folder, 'py-7', key_value, server)
    const id = await eventually(() => kept(folder).robot_id)
    await eventually(async () => (await scene.operator.robot(id)).connection === 'online')
    expect(await scene.operator.keyById(keyId)).toMatchObject({ uses: 1 })
  })

  test('obeys Retry-After, and stops only for a 401 in the words of a control plane', async () => {
    const answers = [
      '401 Unauthorized\r\nContent-Type: text/html',
      '503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: application/problem+json',
      '401 Unauthorized\r\nContent-Type: application/problem+json; charset=utf-8',
    ]
    const askedAt: number[] = []
    const between = createServer((_request, response) => {
      const { port } = between.address() as AddressInfo
      const gateway_url = `ws://127.0.0.1:${port}/agent/ws`
      response.writeHead(201, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ robot_id: 'r', name: 'py-8', gateway_url }))
    })
    between.on('upgrade', (_request, socket) => {
      const answer = answers[askedAt.length] ?? answers.at(-1)
      askedAt.push(performance.now())
      socket.end(`HTTP/1.1 ${answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
    })
    await new Promise<void>((resolve) => void between.listen(0, '127.0.0.1', resolve))
    const { port } = between.address() as AddressInfo
    const robot = start(await newFolder(), 'py-8', `rf_enroll_${'0'.repeat(64)}`, `http://127.0.0.1:${port}`)
    expect(await robot.exited).toBe(3)
    between.close()
    expect(askedAt).toHaveLength(3)
    expect(askedAt[2]! - askedAt[1]!).toBeGreaterThan(1_990)
  })
})
