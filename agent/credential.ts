import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { hashToken } from '../src/protocol/tokens.ts'
import { describeError } from './text.ts'

/** What a robot claims an identity with. */
export interface Credential {
  readonly secret: string
  /** SHA-256 in hex: all of it that is ever written down. */
  readonly hash: string
  /** How a person knows it: by its flag, its variable or its file. */
  readonly label: string
  /** It was given as a setup token: for one robot, made for this moment. */
  readonly isSetupToken: boolean
}

/** One place where credentials are given: the command line, the environment, or agent.toml. */
export interface CredentialSource {
  readonly key?: Given | undefined
  readonly keyFile?: Given | undefined
  readonly setupToken?: Given | undefined
  readonly setupTokenFile?: Given | undefined
}

export interface Given {
  readonly value: string
  readonly label: string
}

const oneLine = z.string().regex(/^[\x21-\x7e]{1,512}$/, 'must be one line without spaces')
const keySchema = oneLine
  .refine(
    (key) => !/^rf_(robot|pat|fleet)_/.test(key),
    'must be an enrollment key (rf_enroll_…) or a provisioning token (apt_…), not another token',
  )
  .refine((key) => !key.startsWith('rf_setup_'), 'is a setup token: give it as --setup-token')
  .refine(
    (key) => !/^(rf_enroll_|apt_)/.test(key) || /^(rf_enroll_|apt_)[0-9a-f]{64}$/.test(key),
    'is not whole: 64 hex digits follow the prefix',
  )
const setupSchema = oneLine
  .refine(
    (token) => !/^(rf_(robot|pat|fleet|enroll)_|apt_)/.test(token),
    'must be a setup token (rf_setup_…)',
  )
  .refine(
    (token) => !token.startsWith('rf_setup_') || /^rf_setup_[a-z2-7]{55}$/.test(token),
    'is not whole: it has 64 characters',
  )

/**
 * The credential that the first of the sources names which names any; undefined when there is none, or one that cannot be
 * used: then `mistakes` says why, without quoting it.
 */
export function readCredential(
  sources: readonly CredentialSource[],
  mistakes: string[],
): Credential | undefined {
  for (const { key, keyFile, setupToken, setupTokenFile } of sources) {
    const given = [key, keyFile, setupToken, setupTokenFile].filter((each) => each !== undefined)
    const [first, second] = given
    if (!first) continue
    if (second) {
      mistakes.push(`${first.label} and ${second.label} cannot both be given`)
      return undefined
    }
    const isSetupToken = first === setupToken || first === setupTokenFile
    const isFile = first === keyFile || first === setupTokenFile
    const found = isFile ? contentOf(first, mistakes, isSetupToken ? 'setup token' : 'key') : first
    return found && checked(found, isSetupToken, mistakes)
  }
  return undefined
}

function contentOf(path: Given, mistakes: string[], what: string): Given | undefined {
  try {
    const value = readFileSync(path.value, 'utf8').trim()
    if (value) return { value, label: `the ${what} in ${path.value}` }
    mistakes.push(`${path.label}: ${path.value} is empty`)
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? describeError(error)
    mistakes.push(`${path.label}: ${path.value} cannot be read (${why})`)
  }
  return undefined
}

function checked({ value, label }: Given, isSetupToken: boolean, mistakes: string[]): Credential | undefined {
  const parsed = (isSetupToken ? setupSchema : keySchema).safeParse(value)
  if (parsed.success) return { secret: value, hash: hashToken(value).toString('hex'), label, isSetupToken }
  mistakes.push(`${label} ${parsed.error.issues[0]?.message}`)
  return undefined
}
