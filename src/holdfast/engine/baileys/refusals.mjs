// Why a message was not sent, as one of the port's codes.

import { DisconnectReason } from 'baileys'

import { BadContent } from './content.mjs'
import { NoSuchGroup } from './groups.mjs'
import { UploadFailed } from './mediahost.mjs'
import { limitCode, QueryLimited } from './querylimits.mjs'
import { NoAnswer, NoAudience, NotOnWhatsApp } from './recipients.mjs'

/** A request of the link, or to it, can't be answered because the link has closed. */
export class LinkDown extends Error {}

/** WhatsApp has nothing about the subject of a query. */
export class NotThere extends Error {}

/** The phone did not send what was asked for: it is off, or has nothing. */
export class PhoneTimedOut extends Error {}

/** Why a query or operation has no result, in the words of the port: `{error, code, detail, retryAfterS}`. */
export function failureOf(error) {
  const limited = [error, error.cause].find(each => each instanceof QueryLimited)
  const name = errorName(error)
  const code = !limited && typeof error.data === 'number' ? error.data : undefined
  return {
    error: name === 'engine-error' && code !== undefined ? 'refused' : name,
    code,
    detail: String(error.message).slice(0, 200),
    retryAfterS: limited?.retryAfterS
  }
}

function errorName(error) {
  if (error instanceof NotThere) return 'not-found'
  return error instanceof PhoneTimedOut ? 'phone-timeout' : refusalCode(error)
}

export function refusalCode(error) {
  if (error instanceof QueryLimited) return error.code
  if (error.cause instanceof QueryLimited) return error.cause.code
  if (limitCode(error)) return limitCode(error)
  if (error instanceof BadContent) return 'bad-content'
  if (error instanceof NotOnWhatsApp) return 'not-on-whatsapp'
  if (error instanceof NoAudience) return 'no-audience'
  if (error instanceof NoSuchGroup) return 'no-such-group'
  if (error instanceof LinkDown || error.output?.statusCode === DisconnectReason.connectionClosed) return 'link-down'
  if (error instanceof NoAnswer || error.output?.statusCode === DisconnectReason.timedOut) return 'timeout'
  if (error instanceof UploadFailed) return 'upload-failed'
  return 'engine-error'
}
