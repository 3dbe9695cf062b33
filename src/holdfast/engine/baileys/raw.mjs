// The fields of a message that is not understood, as JSON of bounded size, so that its text is not lost. Bytes are left
// out, because they are keys, hashes, ciphertexts and thumbnails.

const DEEPEST = 8
const MOST_MEMBERS = 64 // of an object or a list
const LONGEST_TEXT = 4096
const MOST_CHARACTERS = 16384 // all texts and names together
const MOST_VALUES = 512 // in all

/** `{content: {raw}}`; `raw.truncated` says that something was left out. */
export function rawOf(fields) {
  const budget = { values: MOST_VALUES, characters: MOST_CHARACTERS, isCut: false }
  const raw = copied(fields, budget, DEEPEST) ?? {}
  return { content: { raw: budget.isCut ? { ...raw, truncated: true } : raw } }
}

function copied(value, budget, depth) {
  if (value == null || value instanceof Uint8Array || typeof value === 'function') return undefined
  if (typeof value === 'string') return cut(value, budget)
  if (typeof value !== 'object') return value
  if ('low' in value && 'high' in value && 'unsigned' in value) return number64(value)
  if (depth === 0 || budget.values <= 0) {
    budget.isCut = true
    return undefined
  }
  return Array.isArray(value) ? members(value.entries(), budget, depth).map(([, each]) => each) : Object.fromEntries(members(Object.entries(value), budget, depth))
}

function members(entries, budget, depth) {
  const kept = []
  for (const [name, value] of entries) {
    if (kept.length === MOST_MEMBERS || budget.values <= 0) {
      budget.isCut = true
      break
    }
    budget.values--
    const copy = copied(value, budget, depth - 1)
    if (copy !== undefined) kept.push([name, copy])
  }
  return kept
}

function cut(text, budget) {
  const most = Math.min(LONGEST_TEXT, budget.characters)
  budget.characters -= Math.min(text.length, most)
  if (text.length <= most) return text
  budget.isCut = true
  return text.slice(0, most).toWellFormed()
}

function number64(value) {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : String(value)
}
