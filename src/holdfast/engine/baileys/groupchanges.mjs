// Describes WhatsApp's notifications about groups as the port's `GroupChange`. One that is not known to this version is
// reported as `other`, with its name.

import { isJidGroup, isLidUser, jidNormalizedUser } from 'baileys'

import { seconds } from './inbound.mjs'

const MOST_MEMBERS = 1024
const MOST_CHANGES = 16 // in one notification; real ones have one
const TEXT_CHARS = 4096

const members = kind => () => ({ kind })
const setting = (kind, value) => () => ({ kind, value })

// By the name of the stanza.
const CHANGES = {
  create: () => ({ kind: 'created' }),
  delete: () => ({ kind: 'deleted' }),
  add: members('members_added'),
  remove: (child, { actor, people }) => ({ kind: people.length === 1 && people[0].jid === actor ? 'members_left' : 'members_removed' }),
  leave: members('members_left'),
  promote: members('admins_added'),
  demote: members('admins_removed'),
  modify: members('number_changed'),
  subject: ({ attrs }) => ({ kind: 'subject', value: text(attrs.subject) }),
  description: child => ({ kind: 'description', value: text(childOf(child, 'body')?.content) ?? null }),
  announcement: setting('announce_only', true),
  not_announcement: setting('announce_only', false),
  locked: setting('locked', true),
  unlocked: setting('locked', false),
  ephemeral: ({ attrs }) => ({ kind: 'disappearing', value: seconds(attrs.expiration) ?? 0 }),
  not_ephemeral: setting('disappearing', 0),
  member_add_mode: child => ({ kind: 'members_add', value: text(child.content) === 'all_member_add' }),
  membership_approval_mode: child => ({ kind: 'join_approval', value: childOf(child, 'group_join')?.attrs.state === 'on' }),
  invite: () => ({ kind: 'invite_revoked' }), // the new code stays out of events
  created_membership_requests: ({ attrs }) => ({ kind: 'join_requested', value: text(attrs.request_method) }),
  revoked_membership_requests: (child, { actor, people }) => ({ kind: people.every(({ jid }) => jid === actor) ? 'join_request_withdrawn' : 'join_request_rejected' })
}

/**
 * The changes that a notification reports: of type `w:gp2`, or `picture` from a group.
 *
 * @param plain  JID => the person's JID, by phone number where that is known
 */
export function groupChanges({ attrs, content }, plain) {
  if (!isJidGroup(attrs.from) || !Array.isArray(content)) return []
  const named = (jid, phone) => jid && personOf(jid, phone, plain)
  return content.slice(0, MOST_CHANGES).map((child, at) => {
    const actor = named(attrs.participant ?? child.attrs?.author, attrs.participant_pn)
    const people = peopleOf(child, named)
    const isAsking = child.tag === 'created_membership_requests' || child.tag === 'revoked_membership_requests'
    const affected = people.length === 0 && isAsking && actor ? [actor] : people
    const change = describe(attrs.type, child, { actor: actor?.jid, people: affected })
    return {
      noticeId: `${attrs.id} ${at}`,
      group: attrs.from,
      ...change,
      actor: actor?.jid,
      actorLid: actor?.lid,
      actorName: attrs.notify || undefined,
      participants: affected,
      atS: seconds(attrs.t) ?? 0
    }
  })
}

function describe(type, child, context) {
  if (type === 'picture') return { kind: 'picture', value: child.tag !== 'delete' }
  if (Object.hasOwn(CHANGES, child.tag)) return CHANGES[child.tag](child, context)
  return { kind: 'other', value: text(child.tag) }
}

function peopleOf({ tag, content }, named) {
  const holder = tag === 'create' ? content?.find?.(each => each.tag === 'group')?.content : content
  if (!Array.isArray(holder)) return []
  const found = holder.filter(each => ['participant', 'requested_user'].includes(each.tag) && each.attrs?.jid)
  return found.slice(0, MOST_MEMBERS).map(({ attrs }) => ({
    ...named(attrs.jid, attrs.phone_number),
    role: attrs.type === 'admin' || attrs.type === 'superadmin' ? attrs.type : undefined
  }))
}

function personOf(jid, phone, plain) {
  return { jid: plain(phone || jid), lid: isLidUser(jid) ? jidNormalizedUser(jid) : undefined }
}

const childOf = ({ content }, tag) => (Array.isArray(content) ? content.find(each => each.tag === tag) : undefined)

function text(value) {
  if (value == null || Array.isArray(value)) return undefined
  return Buffer.from(value).toString().slice(0, TEXT_CHARS).toWellFormed()
}
