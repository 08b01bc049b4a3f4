import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import { fieldsOf, finiteIn, rounded, textIn } from './reading.ts'

type Pose = NonNullable<HeartbeatBody['pose']>

/** `none`: the message says that the position is not known. */
export type ReadPose = { readonly pose: Pose } | { readonly none: true }

export const POSE_TYPES = [
  'geometry_msgs/msg/PoseWithCovarianceStamped',
  'geometry_msgs/msg/PoseStamped',
  'nav_msgs/msg/Odometry',
  'sensor_msgs/msg/NavSatFix',
] as const
export type PoseType = (typeof POSE_TYPES)[number]

/** Millimetres, and a tenth of a millirad. */
const METRE_DECIMALS = 3
const ANGLE_DECIMALS = 4
/** A centimetre. */
const DEGREE_DECIMALS = 7
const MAX_FRAME = 64

/** The type that a person names, as `Odometry`, `nav_msgs/Odometry` or `nav_msgs/msg/Odometry`. */
export function poseTypeNamed(text: string): PoseType | undefined {
  const parts = text.split('/')
  const [name] = parts.slice(-1)
  return POSE_TYPES.find((type) => {
    const [pack, , own] = type.split('/')
    if (own !== name) return false
    return (
      parts.length === 1 || (parts[0] === pack && (parts.length === 2 || parts.slice(1, -1).join() === 'msg'))
    )
  })
}

/** Reads a message of one of the types; undefined when it says nothing that could be a pose. Never throws. */
export function readPose(type: PoseType, message: unknown): ReadPose | undefined {
  if (type === 'sensor_msgs/msg/NavSatFix') return readFix(message)
  const { header, pose } = fieldsOf(message)
  const inner = type === 'geometry_msgs/msg/PoseStamped' ? fieldsOf(pose) : fieldsOf(fieldsOf(pose).pose)
  const position = fieldsOf(inner.position)
  const x = finiteIn(position.x)
  const y = finiteIn(position.y)
  const theta = yawOf(inner.orientation)
  if (x === undefined || y === undefined || theta === undefined) return undefined
  return {
    pose: {
      frame: textIn(fieldsOf(header).frame_id, MAX_FRAME).replace(/^\/+/, '') || 'map',
      x: rounded(x, METRE_DECIMALS),
      y: rounded(y, METRE_DECIMALS),
      theta,
    },
  }
}

/**
 * The turn about the upright axis, from -π to π; undefined for a quaternion that is none (all zero, NaN). Its length does
 * not matter: what is off by rounding, or was never normalised, points the same way.
 */
export function yawOf(orientation: unknown): number | undefined {
  const fields = fieldsOf(orientation)
  const parts = [fields.x, fields.y, fields.z, fields.w].map(finiteIn)
  const largest = Math.max(...parts.map((part) => (part === undefined ? Number.NaN : Math.abs(part))))
  if (!(largest > 0)) return undefined
  // By the largest first, so that no square overflows or vanishes.
  const [x, y, z, w] = parts.map((part) => part! / largest) as [number, number, number, number]
  return rounded(Math.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z), ANGLE_DECIMALS)
}

function readFix(message: unknown): ReadPose | undefined {
  const fields = fieldsOf(message)
  if (!('latitude' in fields) || !('longitude' in fields)) return undefined
  const status = finiteIn(fieldsOf(fields.status).status)
  const lat = finiteIn(fields.latitude)
  const lon = finiteIn(fields.longitude)
  // Below 0: no fix, or not known whether there is one.
  if ((status !== undefined && status < 0) || lat === undefined || lon === undefined) return { none: true }
  if (Math.abs(lat) > 90 || Math.abs(lon) > 180) return undefined
  return { pose: { lat: rounded(lat, DEGREE_DECIMALS), lon: rounded(lon, DEGREE_DECIMALS) } }
}
