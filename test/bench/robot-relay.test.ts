import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RobotRelay } from '../../bench/support/robot-relay.ts'
import { eventually } from '../support/eventually.ts'

let server: Server
let relay: RobotRelay
let taken: { socket: Socket; heard: string; isOver: boolean }[]
let dialled: Socket[]

beforeEach(async () => {
  taken = []
  dialled = []
  server = createServer((socket) => {
    const one = { socket, heard: '', isOver: false }
    taken.push(one)
    socket.on('error', () => {})
    socket.on('close', () => {
      one.isOver = true
    })
    socket.on('data', (chunk) => {
      one.heard += chunk
      socket.write(`${chunk}!`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  relay = await RobotRelay.to((server.address() as AddressInfo).port)
})

afterEach(async () => {
  for (const socket of dialled) socket.destroy()
  for (const { socket } of taken) socket.destroy()
  await relay.close()
  server.close()
})

/** A robot, and what it hears and that its connection is over. */
function robot() {
  const socket = connect(relay.port, '127.0.0.1')
  dialled.push(socket)
  const one = { socket, heard: '', isOver: false }
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    one.heard += chunk
  })
  socket.on('close', () => {
    one.isOver = true
  })
  return one
}

async function talking() {
  const one = robot()
  one.socket.write('hello')
  await eventually(() => one.heard === 'hello!')
  return one
}

test('counts what passes both ways', async () => {
  await talking()
  expect(relay).toMatchObject({ sentByRobots: 5, sentToRobots: 6, connections: 1 })
})

test('refused: connections are reset at both ends, and new ones at once', async () => {
  const one = await talking()
  relay.weather = 'refused'
  await eventually(() => one.isOver && taken[0]!.isOver)
  const other = robot()
  await eventually(() => other.isOver)
  expect(taken).toHaveLength(1)
})

test('stalled: what was sent arrives when it is fair again, on old and new connections', async () => {
  const one = await talking()
  relay.weather = 'stalled'
  const other = robot()
  one.socket.write('1')
  other.socket.write('2')
  // Another way round than the relay's: what comes over it has had its time when this has.
  const witness = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  dialled.push(witness)
  witness.write('3')
  await eventually(() => taken.some(({ heard }) => heard === '3'))
  expect(relay.sentByRobots).toBe(5)
  relay.weather = 'fair'
  await eventually(() => one.heard === 'hello!1!' && other.heard === '2!')
})

test('lost: the robot is not told, and never hears anything again', async () => {
  const one = await talking()
  relay.weather = 'lost'
  await eventually(() => taken[0]!.isOver)
  one.socket.write('are you there')
  await eventually(() => relay.sentByRobots === 18)
  relay.weather = 'fair'
  const other = await talking()
  expect(one).toMatchObject({ heard: 'hello!', isOver: false })
  expect(other.isOver).toBe(false)
  expect(taken.map(({ heard }) => heard)).toEqual(['hello', 'hello'])
})

test('lost: a connection made then is taken, and nothing that it says arrives', async () => {
  relay.weather = 'lost'
  const one = robot()
  one.socket.write('hello')
  await eventually(() => relay.sentByRobots === 5)
  expect(one.isOver).toBe(false)
  expect(taken.map(({ heard }) => heard).join('')).toBe('')
})
