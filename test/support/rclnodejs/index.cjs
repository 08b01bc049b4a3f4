// Stands in for rclnodejs in tests: what the bridge uses of it, with a test at the end of a socket in place of ROS. Like
// the real one it takes SIGINT for itself, holds the process while it spins, and throws where that does.
const { connect } = require('node:net')
const { deserialize, serialize } = require('node:v8')

const TYPES = [
  'diagnostic_msgs/msg/DiagnosticArray',
  'sensor_msgs/msg/BatteryState',
  'geometry_msgs/msg/PoseWithCovarianceStamped',
  'geometry_msgs/msg/PoseStamped',
  'nav_msgs/msg/Odometry',
  'sensor_msgs/msg/NavSatFix',
]
const missing = (process.env.FAKE_ROS_MISSING_TYPES ?? '').split(',')

let ros
let isUp = false
let graph = []
const nodes = []

class QoS {
  constructor(history = 0, depth = 0, reliability = 0, durability = 0) {
    Object.assign(this, { history, depth, reliability, durability })
  }
}

function tell(event) {
  ros.write(`${serialize(event).toString('base64')}\n`)
}

function hear({ publish, graph: topics }) {
  if (topics) graph = topics
  if (!publish) return
  for (const node of nodes)
    if (node.spinning)
      for (const { type, topic, callback } of node.subscriptions)
        if (topic === publish.topic && type === publish.type) callback(publish.message)
}

class Node {
  constructor(name, namespace = '') {
    if (!isUp) throw new Error('The context is not initialized')
    this.name = name
    this.namespace = namespace
    this.spinning = false
    this.subscriptions = []
    nodes.push(this)
    tell({ node: { name, namespace } })
  }

  resolveTopicName(topic) {
    const space = this.namespace.replace(/^\//, '')
    return topic.startsWith('/') ? topic : `${space && `/${space}`}/${topic}`
  }

  createSubscription(type, topic, options, callback) {
    if (!TYPES.includes(type) || missing.includes(type))
      throw new Error(`The message required does not exist: ${type}`)
    if (!(options.qos instanceof QoS)) throw new TypeError('qos')
    if (typeof callback !== 'function' || callback.length > 1) throw new TypeError('callback')
    const name = this.resolveTopicName(topic)
    this.subscriptions.push({ type, topic: name, callback })
    tell({ subscription: { type, topic: name, qos: { ...options.qos } } })
  }

  getTopicNamesAndTypes() {
    return graph.map(({ name, types }) => ({ name, types }))
  }

  countPublishers(topic) {
    return graph.find(({ name }) => name === topic)?.publishers ?? 0
  }

  spin(timeout = 10) {
    if (this.spinning) throw new Error('The node is already spinning.')
    this.spinning = true
    tell({ spin: timeout })
  }
}

const onSignal = () => rcl.shutdown()
process.on('SIGINT', onSignal)

const rcl = {
  Node,
  QoS,
  async init(_context, args = process.argv) {
    if (isUp) throw new Error('The context has already been initialized.')
    ros = connect(process.env.FAKE_ROS)
    await new Promise((resolve, reject) => {
      ros.once('connect', resolve)
      ros.once('error', reject)
    })
    let rest = ''
    ros.setEncoding('latin1')
    ros.on('data', (part) => {
      const lines = (rest + part).split('\n')
      rest = lines.pop()
      for (const line of lines) hear(deserialize(Buffer.from(line, 'base64')))
    })
    isUp = true
    tell({ init: args })
  },
  shutdown() {
    if (!isUp) throw new Error('The context is not initialized')
    isUp = false
    tell({ shutdown: true })
    ros.end()
  },
  removeSignalHandlers() {
    process.removeListener('SIGINT', onSignal)
  },
}

module.exports = rcl
