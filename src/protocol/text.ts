import { z } from 'zod'

/** True when PostgreSQL can keep the text as it is: well-formed UTF-16 and without the NUL character. */
export function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\u0000')
}

/** The text as PostgreSQL can keep it: for words that cannot be refused, as how a socket was closed. */
export function storableText(text: string): string {
  return text.toWellFormed().replaceAll('\u0000', '\ufffd')
}

/** Free text up to `max` characters, as a person or a program may write it. */
export const freeText = (max: number) =>
  z.string().max(max).refine(isStorableText, 'must not hold NUL or broken surrogate pairs')

// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the point
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/

/**
 * A label that people read: 1 to `max` characters, no control or direction-changing characters, no space at
 * either end. Every such name can stand in a log line, a table cell and a metric label.
 */
export const displayName = (max = 63) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine((text) => text.isWellFormed() && !CONTROL.test(text), 'must not hold control characters')
    .refine((text) => text.trim() === text, 'must not begin or end with a space')

/** How deep objects and arrays of a free object may lie in each other. */
export const MAX_DEPTH = 5

function isStorableJson(value: unknown, depth: number): boolean {
  if (typeof value === 'string') return isStorableText(value)
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value !== 'object' || value === null) return true
  if (depth >= MAX_DEPTH) return false
  if (Array.isArray(value)) return value.every((item) => isStorableJson(item, depth + 1))
  return Object.entries(value).every(([key, item]) => isStorableText(key) && isStorableJson(item, depth + 1))
}

/** A JSON object of the caller's own shape, at most five levels deep, that PostgreSQL's jsonb takes. */
export const freeObject = z
  .record(z.string(), z.unknown())
  .refine((value) => isStorableJson(value, 0), 'must be plain JSON, at most five levels deep')
