import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { POSE_TYPES, poseTypeNamed, readPose, yawOf } from '../../../agent/ros2/mapping-pose.ts'
import { heartbeatBodySchema } from '../../../src/protocol/frames.ts'
import { navSatFix, poseStamped, poseWithCovariance, turned } from './fake-ros.ts'

const COVARIANCE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
const STAMPED = 'geometry_msgs/msg/PoseStamped'
const ODOMETRY = 'nav_msgs/msg/Odometry'
const FIX = 'sensor_msgs/msg/NavSatFix'

describe('the turn of a quaternion', () => {
  test('is the angle about the upright axis', () => {
    fc.assert(
      fc.property(fc.double({ min: -3.14, max: 3.14, noNaN: true }), (theta) => {
        expect(yawOf(turned(theta))).toBeCloseTo(theta, 3)
      }),
    )
  })

  test('does not depend on its length or sign, however long or short it is', () => {
    const length = fc.oneof(
      fc.constantFrom(1e-150, 1e-9, 1e9, 1e150, -1),
      fc.double({ min: 0.5, max: 2, noNaN: true }),
    )
    fc.assert(
      fc.property(fc.double({ min: -3.1, max: 3.1, noNaN: true }), length, (theta, by) => {
        const { z, w } = turned(theta)
        expect(yawOf({ x: 0, y: 0, z: z * by, w: w * by })).toBeCloseTo(theta, 3)
      }),
    )
  })

  test('is taken out of one that leans, too', () => {
    // Turned by 0.6 and then tipped by 0.8.
    const [yaw, pitch] = [0.3, 0.4]
    const leaning = {
      x: -Math.sin(yaw) * Math.sin(pitch),
      y: Math.cos(yaw) * Math.sin(pitch),
      z: Math.sin(yaw) * Math.cos(pitch),
      w: Math.cos(yaw) * Math.cos(pitch),
    }
    expect(yawOf(leaning)).toBeCloseTo(0.6, 3)
  })

  test.each([
    { x: 0, y: 0, z: 0, w: 0 },
    { x: 0, y: 0, z: 0, w: Number.NaN },
    { x: Number.POSITIVE_INFINITY, y: 0, z: 0, w: 1 },
    { x: 0, y: 0, z: 0 },
    {},
    undefined,
    'x',
  ])('is not known of %j', (wrong) => {
    expect(yawOf(wrong)).toBeUndefined()
  })
})

test('each type is read from where it has its pose', () => {
  const expected = { pose: { frame: 'map', x: 1.235, y: -2, theta: 0.5 } }
  expect(readPose(COVARIANCE, poseWithCovariance(1.23456, -2, turned(0.5)))).toEqual(expected)
  expect(readPose(STAMPED, poseStamped(1.23456, -2, turned(0.5)))).toEqual(expected)
  expect(readPose(ODOMETRY, poseWithCovariance(1.23456, -2, turned(0.5), '/odom'))).toMatchObject({
    pose: { frame: 'odom' },
  })
  expect(readPose(STAMPED, poseStamped(1, 2, turned(0), ''))).toMatchObject({ pose: { frame: 'map' } })
})

test('a fix is latitude and longitude, and none when there is no fix', () => {
  expect(readPose(FIX, navSatFix(52.520008123, 13.404954))).toEqual({
    pose: { lat: 52.5200081, lon: 13.404954 },
  })
  for (const without of [navSatFix(1, 2, -1), navSatFix(1, 2, -2), navSatFix(Number.NaN, 2)])
    expect(readPose(FIX, without)).toEqual({ none: true })
  expect(readPose(FIX, navSatFix(91, 2))).toBeUndefined()
  expect(readPose(FIX, navSatFix(1, -181))).toBeUndefined()
})

test('a message with NaN, without a turn, or of another kind says nothing', () => {
  expect(readPose(STAMPED, poseStamped(Number.NaN, 0, turned(0)))).toBeUndefined()
  expect(readPose(STAMPED, poseStamped(0, 0, { x: 0, y: 0, z: 0, w: 0 }))).toBeUndefined()
  expect(readPose(STAMPED, poseWithCovariance(0, 0, turned(0)))).toBeUndefined()
  for (const type of POSE_TYPES)
    for (const wrong of [undefined, null, 7, 'x', [], {}, { pose: null }, { pose: { pose: null } }])
      expect(readPose(type, wrong)).toBeUndefined()
})

test('whatever the fields hold, what comes of it is a pose that a heartbeat takes', () => {
  const number = fc.oneof(fc.double(), fc.bigInt(), fc.anything())
  const position = fc.record({ x: number, y: number })
  const orientation = fc.record({ x: number, y: number, z: number, w: number })
  const header = fc.oneof(
    fc.record({ frame_id: fc.string({ unit: 'binary', maxLength: 200 }) }),
    fc.anything(),
  )
  const message = fc.record({
    header,
    pose: fc.record({ position, orientation, pose: fc.record({ position, orientation }) }),
    latitude: number,
    longitude: number,
    status: fc.anything(),
  })
  fc.assert(
    fc.property(fc.constantFrom(...POSE_TYPES), message, (type, fields) => {
      const read = readPose(type, fields)
      if (read && 'pose' in read)
        expect(heartbeatBodySchema.shape.pose.safeParse(read.pose).success).toBe(true)
    }),
  )
})

test('a type may be named short', () => {
  for (const name of ['Odometry', 'nav_msgs/Odometry', 'nav_msgs/msg/Odometry'])
    expect(poseTypeNamed(name)).toBe(ODOMETRY)
  for (const name of [
    '',
    'odometry',
    'x/Odometry',
    'nav_msgs/srv/Odometry',
    'nav_msgs/msg/x/Odometry',
    'Pose',
  ])
    expect(poseTypeNamed(name), name).toBeUndefined()
})
