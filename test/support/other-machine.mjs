import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import os from 'node:os'

// Loaded before an agent (node --import): to it this is another machine, with the id TEST_MACHINE_ID, on which HOME is the
// home folder of a user who is not root. So an agent in its usual place there is named by the machine alone, as a copied
// disk has it.

const readFileSync = fs.readFileSync
fs.readFileSync = (path, ...rest) =>
  path === '/etc/machine-id' ? `${process.env.TEST_MACHINE_ID}\n` : readFileSync(path, ...rest)

const userInfo = os.userInfo
os.userInfo = (...args) => ({ ...userInfo(...args), homedir: process.env.HOME })
process.getuid = () => 1000

syncBuiltinESMExports()
