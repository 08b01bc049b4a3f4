import { HELLO_TIMEOUT_MS, MAX_FRAME_BYTES } from '../limits.ts'

/** What each message and field means, by its path: `[]` for the items of a list, `*` for names of the robot's own. */
export const MEANINGS: Readonly<Record<string, string>> = {
  hello: `Robot to server: opens the session. The first frame, within ${HELLO_TIMEOUT_MS / 1000} s of the upgrade, and said once.`,
  'hello.type': 'Which frame this is.',
  'hello.protocol': 'Version of the protocol, 1. With another the session is closed with 4503.',
  'hello.agent': 'What runs on the robot; every part may be left out.',
  'hello.agent.version': 'Name and version of the program.',
  'hello.agent.hostname': 'The host name of the machine.',
  'hello.agent.os': 'The operating system, for people.',
  'hello.agent.platform': 'The platform, for programs: `linux`.',
  'hello.agent.arch': 'The processor architecture: `arm64`.',
  'hello.machine_id': 'What tells this machine from others, as in the claim.',
  'hello.boot_id': 'Changes with every start of the machine.',
  'hello.instance_id': 'Changes with every start of the program.',
  'hello.resume_seq':
    'The lowest `seq` that the robot still holds, or the next one it will use. Left out: it counts from the start again.',
  'hello.last_session_no':
    '`session_no` of the newest welcome that this robot wrote down: a copy of its disk gives itself away by it.',

  heartbeat: `Robot to server: how the robot is. Answered by \`ack\` once it is in PostgreSQL. At most ${MAX_FRAME_BYTES} bytes, as every frame.`,
  'heartbeat.type': 'Which frame this is.',
  'heartbeat.seq': 'Grows within a session, gaps allowed; best never used twice in the life of the robot.',
  'heartbeat.at': 'When it was so.',
  'heartbeat.clock_offset_ms':
    'By how many milliseconds the robot’s clock was ahead of the server’s; `at` was corrected by it. Left out: `at` is the robot’s own clock.',
  'heartbeat.clock_unsure':
    'True: `at` is by a clock that the robot never compared with the server’s, and may be off by years.',
  'heartbeat.health': 'How the robot judges itself; `unknown` where it says nothing.',
  'heartbeat.mode': 'The mode it is in, in its own words.',
  'heartbeat.activity': 'What it is doing, in its own words.',
  'heartbeat.battery': 'Its battery.',
  'heartbeat.battery.charge': 'From 0, empty, to 1, full.',
  'heartbeat.battery.charging': 'Whether it is being charged.',
  'heartbeat.battery.voltage': 'In volts.',
  'heartbeat.pose': 'Where it is: on a map of its own, or on the earth.',
  'heartbeat.pose.frame': 'The map or coordinate frame.',
  'heartbeat.pose.x': 'In metres.',
  'heartbeat.pose.y': 'In metres.',
  'heartbeat.pose.theta': 'Its heading, in radians.',
  'heartbeat.pose.lat': 'Latitude, in degrees (WGS 84).',
  'heartbeat.pose.lon': 'Longitude, in degrees (WGS 84).',
  'heartbeat.system': 'Its computer; every part may be left out.',
  'heartbeat.system.cpu': 'Share of the processors in use, from 0 to 1.',
  'heartbeat.system.memory': 'Share of the memory in use, from 0 to 1.',
  'heartbeat.system.disk': 'Share of the disk in use, from 0 to 1.',
  'heartbeat.system.temperature_c': 'In degrees Celsius.',
  'heartbeat.system.load_1m': 'Load average of the last minute.',
  'heartbeat.system.uptime_s': 'Seconds since the machine started.',
  'heartbeat.network': 'Its network, in a shape of the robot’s own.',
  'heartbeat.network.*': 'Anything.',
  'heartbeat.estop': 'Whether its emergency stop is pressed.',
  'heartbeat.faults': 'All faults that stand at this moment: one that is left out is over.',
  'heartbeat.faults.[]': 'A fault that stands.',
  'heartbeat.faults.[].code': 'Tells it from others.',
  'heartbeat.faults.[].level': 'How bad it is.',
  'heartbeat.faults.[].message': 'For a person.',
  'heartbeat.faults.[].since': 'Since when it stands.',
  'heartbeat.metrics': 'Numbers of the robot’s own, by name.',
  'heartbeat.metrics.*': 'A finite number.',

  event: 'Robot to server: something that happened. Answered by `event_ack` once it is in PostgreSQL.',
  'event.type': 'Which frame this is.',
  'event.id': 'Given by the robot, and the same when it is sent again: kept once.',
  'event.at': 'When it happened.',
  'event.clock_offset_ms': 'As in a heartbeat. Stands on the timeline in `data`.',
  'event.clock_unsure': 'As in a heartbeat. Stands on the timeline in `data`.',
  'event.level': 'How bad it is.',
  'event.code': 'What it is, for programs.',
  'event.message': 'What it is, for a person.',
  'event.data': 'Whatever belongs to it.',
  'event.data.*': 'Anything.',

  token_rotated:
    'Robot to server: it has made itself another token and written it down. Answered by `token_rotation_ack`.',
  'token_rotated.type': 'Which frame this is.',
  'token_rotated.token_hash': 'SHA-256 of all characters of the next token, in lower-case hex.',

  bye: 'Robot to server: it leaves, and is offline at once. Answered by a close with 1000.',
  'bye.type': 'Which frame this is.',
  'bye.reason': 'Why, for the timeline.',

  welcome:
    'Server to robot: the session is open. Said again, with the same session_no, when the robot’s name or lifecycle changes.',
  'welcome.type': 'Which frame this is.',
  'welcome.robot_id': 'The robot’s id.',
  'welcome.name': 'The robot’s name: a label, that may change.',
  'welcome.session_no': 'Grows with every session of this robot.',
  'welcome.heartbeat_interval_ms': 'How often to beat.',
  'welcome.server_time': 'The server’s clock (RFC 3339, UTC).',
  'welcome.reconnect_spread_ms':
    'At most 120,000, and more counts as that. When this session ends and nobody says when to come back, wait a random time between 0 and this before the first attempt, once; left out: 0.',
  'welcome.lifecycle': 'While it is `pending`, heartbeats are neither kept nor acknowledged.',

  ack: 'Server to robot: heartbeats are in PostgreSQL.',
  'ack.type': 'Which frame this is.',
  'ack.seq': 'Every heartbeat up to this one that this session sent: the robot may forget them.',

  event_ack: 'Server to robot: events are in PostgreSQL.',
  'event_ack.type': 'Which frame this is.',
  'event_ack.ids': 'Ids of the events: the robot may forget them.',
  'event_ack.ids.[]': 'Id of an event.',

  settings: 'Server to robot: from now on.',
  'settings.type': 'Which frame this is.',
  'settings.heartbeat_interval_ms': 'How often to beat.',

  rotate_token:
    'Server to robot: make another token. Said once in a session for each request; it stands until a session was opened with a new token.',
  'rotate_token.type': 'Which frame this is.',
  'rotate_token.reason': 'A word for the robot’s log; new ones may come.',

  token_rotation_ack:
    'Server to robot: the next token is in PostgreSQL and opens sessions; the first that it opens ends the old one.',
  'token_rotation_ack.type': 'Which frame this is.',
  'token_rotation_ack.token_hash': 'As the robot named it.',

  drain: 'Server to robot: it is about to close the session with 1012.',
  'drain.type': 'Which frame this is.',
  'drain.reconnect_in_ms': 'When to come back, counted from now. Every robot has a moment of its own.',

  error: 'Server to robot: a frame was not taken. The session goes on; the tenth time it is closed.',
  'error.type': 'Which frame this is.',
  'error.code': 'Why, for programs; new ones may come.',
  'error.message': 'Why, for a person.',

  claim_request: 'Body of POST /agent/enroll. Unknown fields are refused.',
  'claim_request.name':
    'What the robot would like to be called; a taken one gets a suffix. Left out: its host name. Counts for nothing with a setup token.',
  'claim_request.token_hash':
    'SHA-256 of all characters of the token that the robot made itself, in hex, best in lower case. Left out: the server makes a token and shows it once.',
  'claim_request.claim_id':
    'Names this claim: sent again with the same token_hash it is answered as before, with 200.',
  'claim_request.fingerprint': 'What the machine says of itself; every part may be left out.',
  'claim_request.fingerprint.hostname': 'The host name.',
  'claim_request.fingerprint.os': 'The operating system, for people.',
  'claim_request.fingerprint.platform': 'The platform, for programs.',
  'claim_request.fingerprint.arch': 'The processor architecture.',
  'claim_request.fingerprint.mac': 'A MAC address; only a digest and the maker’s half are kept.',
  'claim_request.fingerprint.machine_id':
    'The same whenever this machine claims, and of no other machine: send a digest of /etc/machine-id. Only a digest is kept.',
  'claim_request.fingerprint.agent_version': 'Name and version of the program.',

  claim_response: 'Answer to a claim that was granted: 201 for a new robot, 200 for one that was there.',
  'claim_response.robot_id': 'The robot’s id.',
  'claim_response.name': 'What it is called.',
  'claim_response.site_id': 'The site it belongs to.',
  'claim_response.fleet_id': 'The fleet it belongs to.',
  'claim_response.gateway_url': 'Where its sessions are opened; used as it is.',
  'claim_response.heartbeat_interval_ms': 'How often to beat until a welcome says otherwise.',
  'claim_response.robot_token': 'Only when the claim carried no token_hash: shown once.',
}
