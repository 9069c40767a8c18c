// The same line protocol as lib/harness.py, for Node: `ok NAME`, `FAIL NAME reason`, `N passed, N failed`.

import { randomBytes } from 'node:crypto'

export const PORT = Number(process.env.E2E_PORT)
export const DEADLINE_MS = 10_000
const TEST_MS = 60_000

export const token = (prefix = 'j') => prefix + randomBytes(6).toString('hex')
export const freshTopic = (...levels) => [token('t'), ...levels].join('/')

export function check(condition, why) {
  if (!condition) throw new Error(why)
}

export function equal(got, want, what = 'value') {
  const [left, right] = [JSON.stringify(got), JSON.stringify(want)]
  check(left === right, `${what}: got ${left?.slice(0, 300)}, want ${right?.slice(0, 300)}`)
}

/** Settles as the promise does, or rejects naming what was awaited. */
export function within(promise, what, ms = DEADLINE_MS) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${ms} ms waiting for ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** A queue to await. */
export class Inbox {
  #items = []
  #waiting = []

  put(item) {
    const next = this.#waiting.shift()
    if (next) next(item)
    else this.#items.push(item)
  }

  take(what, ms) {
    if (this.#items.length) return Promise.resolve(this.#items.shift())
    let own
    const item = new Promise((resolve) => this.#waiting.push((own = resolve)))
    return within(item, what, ms).catch((error) => {
      this.#waiting = this.#waiting.filter((each) => each !== own)
      throw error
    })
  }

  get length() {
    return this.#items.length
  }
}

const tests = []

/** Registers a test; its function gets `cleanup`, a list of functions called at its end. */
export const test = (name, body) => tests.push([name, body])

/** Runs all tests whose names hold one of the arguments, calls `close`, and exits. */
export async function main(suite, close = async () => {}) {
  const wanted = process.argv.slice(2)
  let passed = 0
  let failed = 0
  for (const [short, body] of tests) {
    const name = `${suite}/${short}`
    if (wanted.length && !wanted.some((part) => name.includes(part))) continue
    const cleanup = []
    try {
      await within(body(cleanup), 'the test to end', TEST_MS)
      passed += 1
      console.log(`ok ${name}`)
    } catch (error) {
      failed += 1
      const at = error.stack?.split('\n').find((line) => line.includes('suite.mjs'))?.trim() ?? ''
      console.log(`FAIL ${name} ${String(error.message ?? error).replace(/\s+/g, ' ')} (${at.split('/').pop()})`)
    }
    await Promise.allSettled(cleanup.map((close) => close()))
  }
  await within(close(), 'the suite to end').catch((error) => console.log(String(error.message)))
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}
