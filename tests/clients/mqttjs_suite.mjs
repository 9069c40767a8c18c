// MQTT.js in 3.1, 3.1.1 and 5.0.

import mqtt from 'mqtt'
import { check, equal, freshTopic, Inbox, main, PORT, test, token, within } from './lib/harness.mjs'

const VERSIONS = [
  ['3.1', { protocolId: 'MQIsdp', protocolVersion: 3 }],
  ['3.1.1', { protocolVersion: 4 }],
  ['5.0', { protocolVersion: 5 }],
]
const V5 = VERSIONS[2][1]

/** A connected client; `client.inbox` holds `{topic, payload, packet}`, `client.connack` the CONNACK. */
async function connected(cleanup, options = {}) {
  const client = mqtt.connect({
    host: '127.0.0.1',
    port: PORT,
    clientId: token(),
    reconnectPeriod: 0,
    connectTimeout: 10_000,
    ...options,
  })
  client.inbox = new Inbox()
  client.on('message', (topic, payload, packet) => client.inbox.put({ topic, payload: payload.toString(), packet }))
  cleanup.push(() => within(client.endAsync(true), 'the client to end', 2000))
  client.connack = await within(
    new Promise((resolve, reject) => {
      client.once('connect', resolve)
      client.once('error', reject)
      client.once('close', () => reject(new Error('closed before CONNACK')))
    }),
    'CONNACK',
  )
  client.on('error', () => {})
  return client
}

async function subscribed(client, filter, options = { qos: 0 }) {
  const granted = await within(client.subscribeAsync(filter, options), `SUBACK for ${filter}`)
  equal(granted.map((each) => each.qos), [options.qos], 'granted QoS')
  return client
}

const published = (client, topic, payload, options) =>
  within(client.publishAsync(topic, payload, options), `acknowledgment of ${topic}`)

/** Returns when what the broker had for this client before now has come. */
const fence = (client) => subscribed(client, freshTopic('fence'))

async function received(client, count) {
  const out = []
  while (out.length < count) out.push(await client.inbox.take(`message ${out.length + 1} of ${count}`))
  return out
}

for (const [label, version] of VERSIONS) {
  for (const qos of [0, 1, 2]) {
    test(`publish-and-subscribe[${label},QoS${qos}]`, async (cleanup) => {
      const topic = freshTopic('a', 'ä')
      const subscriber = await subscribed(await connected(cleanup, version), topic, { qos })
      const publisher = await connected(cleanup, version)
      const payloads = Array.from({ length: 20 }, (_, n) => `${n} – ünïcödé`)
      await Promise.all(payloads.map((payload) => published(publisher, topic, payload, { qos })))
      const got = await received(subscriber, 20)
      equal(got.map((each) => each.payload), payloads, 'payloads')
      for (const { topic: at, packet } of got) equal([at, packet.qos, packet.retain], [topic, qos, false], 'packet')
    })
  }

  test(`a-binary-payload-is-unchanged[${label}]`, async (cleanup) => {
    const topic = freshTopic()
    const subscriber = await subscribed(await connected(cleanup, version), topic, { qos: 1 })
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, n) => (n * 31) & 255))
    await published(subscriber, topic, bytes, { qos: 1 })
    const [{ packet }] = await received(subscriber, 1)
    check(bytes.equals(packet.payload), 'the payload changed on the way')
  })

  test(`retained-and-cleared[${label}]`, async (cleanup) => {
    const topic = freshTopic()
    const publisher = await connected(cleanup, version)
    await published(publisher, topic, 'kept', { qos: 1, retain: true })
    const late = await subscribed(await connected(cleanup, version), topic, { qos: 1 })
    const [{ payload, packet }] = await received(late, 1)
    equal([payload, packet.retain], ['kept', true], 'retained')
    await published(publisher, topic, '', { qos: 1, retain: true })
    const later = await subscribed(await connected(cleanup, version), topic, { qos: 1 })
    await published(publisher, topic, 'live', { qos: 1 })
    const [first] = await received(later, 1)
    equal([first.payload, first.packet.retain], ['live', false], 'first message after clearing')
  })

  test(`a-will-is-sent-when-the-stream-breaks[${label}]`, async (cleanup) => {
    const topic = freshTopic('will')
    const watcher = await subscribed(await connected(cleanup, version), topic, { qos: 1 })
    const will = { topic, payload: Buffer.from('gone'), qos: 1, retain: false }
    const broken = await connected(cleanup, { ...version, will })
    broken.stream.destroy()
    const [{ payload }] = await received(watcher, 1)
    equal(payload, 'gone', 'will')
  })

  test(`reconnecting-subscribes-again[${label}]`, async (cleanup) => {
    const topic = freshTopic('again')
    const client = await connected(cleanup, { ...version, reconnectPeriod: 50, resubscribe: true })
    await subscribed(client, topic, { qos: 1 })
    const resubscribed = new Promise((resolve) =>
      client.on('packetreceive', (packet) => packet.cmd === 'suback' && resolve(packet)),
    )
    client.stream.destroy()
    await within(resubscribed, 'the SUBACK after the reconnect')
    await published(await connected(cleanup, version), topic, 'after the break', { qos: 1 })
    const [{ payload }] = await received(client, 1)
    equal(payload, 'after the break', 'payload')
  })

  test(`a-session-outlives-its-connection[${label}]`, async (cleanup) => {
    const topic = freshTopic('session')
    const options = { ...version, clientId: token(), clean: false }
    if (version === V5) options.properties = { sessionExpiryInterval: 300 }
    const first = await subscribed(await connected(cleanup, options), topic, { qos: 2 })
    equal(first.connack.sessionPresent, false, 'session present at first')
    await first.endAsync()
    const publisher = await connected(cleanup, version)
    for (let n = 0; n < 30; n += 1) await published(publisher, topic, `${n}`, { qos: 2 })
    const again = await connected(cleanup, options)
    if (label !== '3.1') equal(again.connack.sessionPresent, true, 'session present on resume')
    const got = (await received(again, 30)).map((each) => each.payload)
    equal(got, Array.from({ length: 30 }, (_, n) => `${n}`), 'offline messages')
  })

  test(`a-short-keepalive-is-kept-by-pings[${label}]`, async (cleanup) => {
    const topic = freshTopic('ping')
    const client = await subscribed(await connected(cleanup, { ...version, keepalive: 1 }), topic, { qos: 1 })
    let closed = false
    client.on('close', () => (closed = true))
    const pongs = new Inbox()
    client.on('packetreceive', (packet) => packet.cmd === 'pingresp' && pongs.put(packet))
    for (let n = 0; n < 3; n += 1) await pongs.take(`PINGRESP ${n + 1}`)
    check(!closed, 'the connection was closed in spite of its pings')
    await published(client, topic, 'still here', { qos: 1 })
    equal((await received(client, 1))[0].payload, 'still here', 'payload')
  })

  test(`200-clients-in-pairs[${label}]`, async (cleanup) => {
    const clients = await Promise.all(Array.from({ length: 200 }, () => connected(cleanup, version)))
    const root = freshTopic('pairs')
    await Promise.all(clients.map((client, n) => subscribed(client, `${root}/${n}`, { qos: 1 })))
    await Promise.all(
      clients.flatMap((client, n) =>
        Array.from({ length: 10 }, (_, m) => published(client, `${root}/${n ^ 1}`, `${n}:${m}`, { qos: 1 })),
      ),
    )
    for (const [n, client] of clients.entries()) {
      const got = (await received(client, 10)).map((each) => each.payload)
      equal(got, Array.from({ length: 10 }, (_, m) => `${n ^ 1}:${m}`), `client ${n}`)
    }
    for (const client of clients) equal(client.inbox.length, 0, 'messages too many')
  })
}

test('topic-aliases-are-assigned-and-used', async (cleanup) => {
  const root = freshTopic('alias')
  const subscriber = await subscribed(await connected(cleanup, V5), `${root}/#`, { qos: 1 })
  const publisher = await connected(cleanup, { ...V5, autoAssignTopicAlias: true, autoUseTopicAlias: true })
  check(publisher.connack.properties?.topicAliasMaximum > 0, 'the broker takes no topic aliases')
  const sent = []
  publisher.on('packetsend', (packet) => packet.cmd === 'publish' && sent.push(packet))
  // More topics than aliases, where they can be counted: the least recently used one then means another topic.
  const count = Math.min(publisher.connack.properties.topicAliasMaximum, 100) + 5
  const topics = Array.from({ length: count }, (_, n) => `${root}/${n}`)
  topics.push(...topics.slice(-3))
  for (const [n, topic] of topics.entries()) await published(publisher, topic, `${n}`, { qos: 1 })
  const got = await received(subscriber, topics.length)
  equal(got.map((each) => each.topic), topics, 'topics')
  equal(got.map((each) => each.payload), topics.map((_, n) => `${n}`), 'payloads')
  check(sent.some((packet) => packet.topic === ''), 'no packet went without its topic: nothing was tested')
})

test('topic-aliases-from-the-broker-are-understood', async (cleanup) => {
  const root = freshTopic('alias')
  const subscriber = await connected(cleanup, { ...V5, properties: { topicAliasMaximum: 4 } })
  await subscribed(subscriber, `${root}/#`, { qos: 1 })
  const publisher = await connected(cleanup, V5)
  const topics = Array.from({ length: 60 }, (_, n) => `${root}/${n % 7}`)
  for (const topic of topics) await published(publisher, topic, topic, { qos: 1 })
  const got = await received(subscriber, topics.length)
  equal(got.map((each) => each.topic), topics, 'topics')
  equal(got.map((each) => each.payload), topics, 'payloads')
  const aliases = got.map((each) => each.packet.properties?.topicAlias).filter((alias) => alias !== undefined)
  check(aliases.every((alias) => alias >= 1 && alias <= 4), `aliases ${aliases}`)
})

test('a-shared-subscription-is-shared', async (cleanup) => {
  const topic = freshTopic('shared')
  const members = await Promise.all(Array.from({ length: 4 }, () => connected(cleanup, V5)))
  for (const member of members) await subscribed(member, `$share/js/${topic}`, { qos: 1 })
  const publisher = await connected(cleanup, V5)
  await Promise.all(Array.from({ length: 400 }, (_, n) => published(publisher, topic, `${n}`, { qos: 1 })))
  for (const member of members) await fence(member)
  const shares = []
  for (const member of members) shares.push((await received(member, member.inbox.length)).map((each) => Number(each.payload)))
  equal(shares.flat().sort((a, b) => a - b), Array.from({ length: 400 }, (_, n) => n), 'all members together')
  check(shares.every((share) => share.length > 0), `shares ${shares.map((share) => share.length)}`)
})

test('publish-properties-arrive', async (cleanup) => {
  const topic = freshTopic('properties')
  const subscriber = await connected(cleanup, V5)
  await within(subscriber.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 42 } }), 'SUBACK')
  const properties = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 600,
    responseTopic: 'answers/here',
    correlationData: Buffer.from([0, 255, 7]),
    userProperties: { one: ['1', 'again'], two: '2' },
    contentType: 'text/plain',
  }
  await published(await connected(cleanup, V5), topic, 'x', { qos: 1, properties })
  const [{ packet }] = await received(subscriber, 1)
  const got = packet.properties
  check(got.messageExpiryInterval >= 595 && got.messageExpiryInterval <= 600, `expiry ${got.messageExpiryInterval}`)
  equal(got.payloadFormatIndicator, true, 'payload format indicator')
  equal(got.responseTopic, 'answers/here', 'response topic')
  equal([...got.correlationData], [0, 255, 7], 'correlation data')
  equal({ ...got.userProperties }, { one: ['1', 'again'], two: '2' }, 'user properties')
  equal(got.contentType, 'text/plain', 'content type')
  equal([got.subscriptionIdentifier].flat(), [42], 'subscription identifier')
})

test('subscribe-options-of-5.0', async (cleanup) => {
  const topic = freshTopic('options')
  const client = await connected(cleanup, V5)
  const other = await connected(cleanup, V5)
  await published(other, topic, 'retained', { qos: 1, retain: true })
  await subscribed(client, topic, { qos: 1, nl: true, rap: true, rh: 2 })
  await published(client, topic, 'own', { qos: 1 })
  await published(other, topic, 'other', { qos: 1, retain: true })
  const [{ payload, packet }] = await received(client, 1)
  equal([payload, packet.retain], ['other', true], 'the only message')
})

test('takeover-tells-the-old-connection-why', async (cleanup) => {
  const clientId = token()
  const old = await connected(cleanup, { ...V5, clientId })
  const told = new Promise((resolve) => old.on('disconnect', (packet) => resolve(packet.reasonCode)))
  await connected(cleanup, { ...V5, clientId })
  equal(await within(told, 'DISCONNECT'), 0x8e, 'reason code')
})

test('unsubscribing-ends-the-flow', async (cleanup) => {
  const root = freshTopic()
  const client = await connected(cleanup, V5)
  await subscribed(client, `${root}/a`, { qos: 1 })
  await subscribed(client, `${root}/b`, { qos: 1 })
  await within(client.unsubscribeAsync(`${root}/a`), 'UNSUBACK')
  await published(client, `${root}/a`, 'unwanted', { qos: 1 })
  await published(client, `${root}/b`, 'wanted', { qos: 1 })
  equal((await received(client, 1))[0].payload, 'wanted', 'first message')
})

await main('mqttjs')
