import assert from 'node:assert/strict'
import { createCipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { test } from 'node:test'

import { proto } from 'baileys'

import { answeredMessages, answerOf } from './sealed.mjs'

const { EventResponseMessage, PollVoteMessage, ReactionMessage } = proto.Message
const TARGET = '3EB0AA'
const PHONE = '962799999999@s.whatsapp.net'
const LID = '2002@lid'
const secret = Buffer.alloc(32, 7)
const poll = { poll: { options: ['A', 'B', 'C'], votes: [] } }
const answered = { secret: secret.toString('base64'), senders: [PHONE, LID], content: poll }
const sha256 = text => createHash('sha256').update(text).digest()
const voteFor = (...names) => PollVoteMessage.encode({ selectedOptions: names.map(sha256) }).finish()

// Encrypts an answer as WhatsApp's clients do.
function sealed(use, bytes, { creator = PHONE, sender = PHONE, additional = `${TARGET}\0${sender}` } = {}) {
  const key = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), TARGET + creator + sender + use, 32))
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(additional))
  return { use, iv, payload: Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]) }
}
const opened = (vote, more = {}) => answerOf(vote, { target: TARGET, senders: [PHONE], answered, ...more })

test('a vote names the chosen options', () => {
  assert.deepEqual(opened(sealed('Poll Vote', voteFor('C', 'A'))), {
    text: 'A, C',
    content: { poll: { options: ['A', 'B', 'C'], votes: ['A', 'C'] } }
  })
})

test('a vote without options was withdrawn; options that the poll does not have are counted', () => {
  assert.deepEqual(opened(sealed('Poll Vote', voteFor())), { text: undefined, content: { poll: { options: ['A', 'B', 'C'], votes: [] } } })
  assert.deepEqual(opened(sealed('Poll Vote', voteFor('A', 'Z'))).content.poll, { options: ['A', 'B', 'C'], votes: ['A'], unknownVotes: 1 })
})

test('of a vote with a hundred thousand options only the first are compared, and all are counted', () => {
  const options = Array.from({ length: 1024 }, (_, n) => `option ${n}`)
  const hashes = Array.from({ length: 120_000 }, () => randomBytes(32))
  const poll = selectedOptions => {
    const vote = sealed('Poll Vote', PollVoteMessage.encode({ selectedOptions }).finish())
    return opened(vote, { answered: { ...answered, content: { poll: { options, votes: [] } } } }).content.poll
  }
  const [first, last] = [poll([sha256('option 3'), ...hashes]), poll([...hashes, sha256('option 3')])]
  assert.deepEqual([first.votes, first.unknownVotes], [['option 3'], 120_000])
  assert.deepEqual([last.votes, last.unknownVotes], [[], 120_001])
})

test('both people may be identified by number or by hidden id, with a device or without', () => {
  for (const creator of [PHONE, LID]) {
    for (const sender of ['962788888888@s.whatsapp.net', '3003@lid']) {
      const vote = sealed('Poll Vote', voteFor('B'), { creator, sender })
      assert.equal(opened(vote, { senders: ['962788888888:4@s.whatsapp.net', '3003:4@lid', undefined] }).text, 'B')
    }
  }
  const claimed = sealed('Poll Vote', voteFor('B'), { creator: '4004@lid' })
  assert.equal(opened({ ...claimed, creator: '4004@lid' }).text, 'B')
})

test('the reason why an answer can’t be decrypted is reported', () => {
  const vote = sealed('Poll Vote', voteFor('A'))
  const because = code => ({ content: { encrypted: true, unreadable: code } })
  assert.deepEqual(opened(vote, { answered: null }), because('message-unknown'))
  assert.deepEqual(opened(vote, { answered: { ...answered, secret: undefined } }), because('message-unknown'))
  assert.deepEqual(opened(vote, { senders: ['3003@lid'] }), because('undecryptable'))
  assert.deepEqual(opened({ ...vote, payload: vote.payload.subarray(1) }), because('undecryptable'))
  assert.deepEqual(opened({ ...vote, payload: Buffer.from('x'), iv: Buffer.alloc(0) }), because('undecryptable'))
  assert.deepEqual(opened(sealed('Poll Vote', Buffer.from([0x0a, 0xff]))), because('undecryptable'))
})

test('answers to events, reactions, comments and edits are decrypted in the same way', () => {
  const { NOT_GOING } = EventResponseMessage.EventResponseType
  const response = sealed('Event Response', EventResponseMessage.encode({ response: NOT_GOING, extraGuestCount: 2 }).finish())
  assert.deepEqual(opened(response), { text: 'not going', content: { eventResponse: { answer: 'not_going', extraGuests: 2 } } })
  const plain = { additional: '' }
  const reaction = sealed('Enc Reaction', ReactionMessage.encode({ text: '👍' }).finish(), plain)
  assert.deepEqual(opened(reaction), { content: { reaction: { emoji: '👍' } } })
  const comment = sealed('Enc Comment', proto.Message.encode({ conversation: 'well said' }).finish(), plain)
  assert.deepEqual(opened(comment), { text: 'well said' })
  const edit = sealed('Event Edit', proto.Message.encode({ eventMessage: { name: 'Later' } }).finish(), plain)
  assert.deepEqual(opened(edit), { text: 'Later', content: { event: { name: 'Later' } } })
})

test('the answered message is an inbound one, or one that Holdfast sent', async () => {
  const asked = []
  const lookup = ({ received = null, message } = {}) =>
    answeredMessages({
      ask: async question => (asked.push(question.r), question.r === 'answered-message-wanted' ? received : {}),
      again: async () => message,
      me: () => ({ id: '962700000001:3@s.whatsapp.net', lid: '1001:3@lid' })
    })
  const came = { secret: 's', sender: PHONE, senderLid: LID, fromMe: false, content: poll }
  assert.deepEqual((await lookup({ received: came })(PHONE, TARGET)).senders, [PHONE, LID])
  const ours = ['962700000001:3@s.whatsapp.net', '1001:3@lid']
  assert.deepEqual((await lookup({ received: { ...came, fromMe: true } })(PHONE, TARGET)).senders, ours)
  const message = { pollCreationMessageV3: { name: 'n', options: [{ optionName: 'A' }] }, messageContextInfo: { messageSecret: secret } }
  const sent = await lookup({ message: proto.Message.fromObject(message) })(PHONE, TARGET)
  assert.deepEqual([sent.secret, sent.content.poll.options, sent.senders], [secret.toString('base64'), ['A'], ours])
  assert.equal(await lookup()(PHONE, TARGET), null)
  assert.equal(await lookup()(PHONE, undefined), null)
  asked.length = 0
  assert.equal(await lookup()(PHONE, 'an id with spaces'), null)
  assert.deepEqual(asked, ['answered-message-wanted'])
})
