// MQTT.js in a web page, in headless Chromium, over WSS with a certificate of an authority that only the tests know.
//
// The authority is put where Chromium looks for those that its user trusts ($HOME/.pki/nssdb), so that names, dates and
// signatures are really checked; a second browser, whose user trusts nobody, must not get in.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { check, DEADLINE_MS, equal, freshTopic, main, test, within } from './lib/harness.mjs'

const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  '--no-sandbox', // which root, as whom the tests may run, cannot have
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const ADDRESS = `wss://localhost:${process.env.E2E_WSS_PORT}/mqtt`
const VERSIONS = [
  ['3.1.1', 4],
  ['5.0', 5],
]

const SCRIPT = readFileSync(new URL('./node_modules/mqtt/dist/mqtt.min.js', import.meta.url))

/** The pages: an empty one, and MQTT.js as it comes for browsers. */
const server = createServer((request, response) => {
  const isScript = request.url === '/mqtt.min.js'
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8')
  response.end(isScript ? SCRIPT : '<!doctype html><title>MQTT.js</title><script src="/mqtt.min.js"></script>')
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
server.unref()

const homes = []

/** A browser whose user trusts the authority in this file, or nobody beyond those that Chromium comes with. */
async function browser(authority) {
  const home = mkdtempSync(join(tmpdir(), 'e2e-browser-'))
  homes.push(home)
  if (authority) {
    const store = join(home, '.pki/nssdb')
    mkdirSync(store, { recursive: true })
    const certutil = (...options) => execFileSync('certutil', ['-d', `sql:${store}`, ...options], { stdio: 'pipe' })
    certutil('-N', '--empty-password')
    certutil('-A', '-n', 'tests', '-t', 'C,,', '-i', join(process.env.E2E_FILES, authority))
  }
  const context = await chromium.launchPersistentContext(join(home, 'profile'), {
    executablePath: CHROMIUM,
    headless: true,
    args: FLAGS,
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, 'config'), XDG_DATA_HOME: join(home, 'data') },
    timeout: 3 * DEADLINE_MS,
  })
  context.setDefaultTimeout(DEADLINE_MS)
  return context
}

const trusting = within(browser('ca.pem'), 'Chromium to start', 3 * DEADLINE_MS)

async function page(cleanup, context) {
  const opened = await context.newPage()
  cleanup.push(() => opened.close())
  await opened.goto(`http://localhost:${server.address().port}/`)
  return opened
}

/** In the page: connects; `globalThis.client` is the client. Returns the reason code of CONNACK, or why there is none. */
const connect = (opened, options) =>
  opened.evaluate(
    ([url, options]) =>
      new Promise((resolve) => {
        const client = (globalThis.client = globalThis.mqtt.connect(url, { reconnectPeriod: 0, ...options }))
        client.once('connect', (connack) => resolve(connack.reasonCode ?? connack.returnCode))
        client.once('error', (error) => resolve(error.code ?? String(error)))
        client.once('close', () => resolve('closed'))
      }),
    [ADDRESS, options],
  )

/** In the page: subscribes and publishes each payload at its QoS; returns what came back. */
const roundTrip = (opened, topic, messages) =>
  opened.evaluate(
    async ([topic, messages]) => {
      const { client } = globalThis
      const got = []
      const all = new Promise((resolve) =>
        client.on('message', (topic, payload, { qos }) => {
          if (got.push({ topic, payload: payload.toString(), qos }) === messages.length) resolve()
        }),
      )
      await client.subscribeAsync(topic, { qos: 2 })
      for (const { payload, qos } of messages) await client.publishAsync(topic, payload, { qos })
      await all
      await client.endAsync()
      return got
    },
    [topic, messages],
  )

for (const [label, protocolVersion] of VERSIONS) {
  test(`a-page-publishes-and-subscribes-at-every-qos[${label}]`, async (cleanup) => {
    const opened = await page(cleanup, await trusting)
    equal(await connect(opened, { protocolVersion, username: 'ann', password: 'green tea' }), 0, 'CONNACK')
    const topic = `of/ann/${freshTopic()}`
    // The last is longer than a TLS record: it comes in several frames and records.
    const payloads = ['ünïcödé', 'x'.repeat(200), 'y'.repeat(100_000)]
    const messages = payloads.flatMap((payload) => [0, 1, 2].map((qos) => ({ payload, qos })))
    const got = await within(roundTrip(opened, topic, messages), 'the messages')
    equal(got, messages.map((message) => ({ topic, ...message })), 'messages')
  })

  test(`a-page-with-a-wrong-password-is-refused[${label}]`, async (cleanup) => {
    const opened = await page(cleanup, await trusting)
    const reason = await connect(opened, { protocolVersion, username: 'ann', password: 'coffee' })
    equal(reason, protocolVersion === 5 ? 0x86 : 4, 'CONNACK')
  })
}

test('a-page-whose-user-does-not-trust-the-authority-gets-nowhere', async (cleanup) => {
  const context = await browser(null)
  cleanup.push(() => context.close())
  const opened = await page(cleanup, context)
  const said = []
  opened.on('console', (message) => said.push(message.text()))
  const outcome = await connect(opened, { protocolVersion: 5, username: 'ann', password: 'green tea' })
  check(outcome !== 0, 'it connected')
  check(said.some((text) => text.includes('ERR_CERT_AUTHORITY_INVALID')), `${outcome}; the console says: ${said}`)
})

process.on('exit', () => homes.forEach((home) => rmSync(home, { recursive: true, force: true })))
await main('browser', async () => (await trusting).close())
