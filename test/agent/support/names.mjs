// Loaded into an agent before itself: names are what a test's file says, and not what this machine's resolver does. The
// file maps a name to its addresses, or to the code of the error that looking it up ends with.
import dns from 'node:dns'
import { readFileSync } from 'node:fs'

dns.lookup = (name, options, callback) => {
  const found = JSON.parse(readFileSync(process.env.TEST_NAMES, 'utf8'))[name] ?? 'ENOTFOUND'
  process.nextTick(() => {
    if (typeof found === 'string') {
      const error = new Error(`getaddrinfo ${found} ${name}`)
      callback(Object.assign(error, { code: found, syscall: 'getaddrinfo', hostname: name }))
      return
    }
    const all = found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
    if (options.all) callback(null, all)
    else callback(null, all[0].address, all[0].family)
  })
}
