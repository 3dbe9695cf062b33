// Asks the account's phone to upload a file again that WhatsApp's media servers no longer have.

import { decryptMediaRetryData, encryptMediaRetryRequest, isJidGroup, proto } from 'baileys'

import { NotThere, PhoneTimedOut } from './refusals.mjs'

const PHONE_DEADLINE_MS = 15_000
const { SUCCESS, NOT_FOUND } = proto.MediaRetryNotification.ResultType

/** Resolves to where the file is now: `{directPath}`. Throws `NotThere` when the phone has no such file, `PhoneTimedOut`. */
export async function uploadedAgain({ message, mediaKey }, { sock, groups }) {
  const fileKey = Buffer.from(mediaKey, 'base64')
  const { promise, resolve, reject } = Promise.withResolvers()
  const onUpdate = updates => {
    const answer = updates.find(({ key }) => key.id === message.id)
    if (answer) resolve(answer)
  }
  const timer = setTimeout(() => reject(new PhoneTimedOut('the phone did not answer')), PHONE_DEADLINE_MS)
  promise.catch(() => {}) // when sending fails, nobody waits for it
  sock.ev.on('messages.media-update', onUpdate)
  try {
    await sock.sendNode(encryptMediaRetryRequest(await keyOf(message, groups), fileKey, sock.user.id))
    return { directPath: pathIn(await promise, fileKey) }
  } finally {
    clearTimeout(timer)
    sock.ev.off('messages.media-update', onUpdate)
  }
}

// The phone names chats and members by hidden id, wherever it knows one.
async function keyOf({ id, chat, fromMe, sender, senderLid }, groups) {
  if (!isJidGroup(chat)) return { id, fromMe, remoteJid: (!fromMe && senderLid) || chat }
  const { addressingMode } = await groups.get(chat)
  return { id, fromMe, remoteJid: chat, participant: (addressingMode === 'lid' && senderLid) || sender }
}

function pathIn({ key, media, error }, fileKey) {
  if (error) throw Number(error.data?.code) === NOT_FOUND ? phoneHasNone() : error
  const { result, directPath } = decryptMediaRetryData(media, fileKey, key.id)
  if (result === NOT_FOUND) throw phoneHasNone()
  if (result !== SUCCESS || !directPath) throw new Error(`the phone could not upload the file again (${result})`)
  return directPath
}

const phoneHasNone = () => new NotThere('the phone no longer has this file')
