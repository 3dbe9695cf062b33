// What Holdfast changes at WhatsApp, by name, as `holdfast.session.operations` defines it. A new kind is an entry of
// OPERATIONS: `run` carries it out, and `observe`, for kinds that must not be repeated, shows what Python compares.
// Every request goes through the link's QueryLimits, by the kind of the request.

import { readFile } from 'node:fs/promises'

import { getBinaryNodeChild, getBinaryNodeChildren, isJidGroup, jidNormalizedUser, S_WHATSAPP_NET } from 'baileys'

import { ACCOUNT_OPERATIONS, rename } from './accountoperations.mjs'
import { followChannel } from './channels.mjs'
import { setPrivacy } from './privacy.mjs'
import { aboutMe } from './profile.mjs'
import { NotOnWhatsApp } from './recipients.mjs'

const ALL_GROUPS = '@g.us'
const PICTURE = 'w:profile:picture'
const OK = 200

const OPERATIONS = {
  ...ACCOUNT_OPERATIONS,

  'create-group': {
    async run({ subject, members }, { setGroup, key }) {
      const create = { tag: 'create', attrs: { subject, key }, content: members.map(participant) }
      const group = getBinaryNodeChild(await setGroup(ALL_GROUPS, create), 'group')
      const { id } = group.attrs
      const answers = answersAbout(group).filter(row => members.includes(row.jid) || row.code !== OK)
      return { id: groupJid(id), subject: group.attrs.subject ?? subject, members: answers }
    },

    // The account's own groups with this subject.
    async observe({ subject }, { getGroup, isMe, sock, limits }) {
      const answer = await getGroup(ALL_GROUPS, { tag: 'participating', attrs: {} })
      const listed = getBinaryNodeChildren(getBinaryNodeChild(answer, 'groups'), 'group')
      const own = listed.filter(({ attrs }) => attrs.subject === subject && [attrs.creator, attrs.creator_pn].some(isMe))
      return Promise.all(
        own.map(async ({ attrs }) => {
          const found = await limits.run('w:g2', () => sock.groupMetadata(groupJid(attrs.id)))
          return { id: found.id, subject: found.subject, members: found.participants.map(person) }
        })
      )
    }
  },

  'change-members': {
    async run({ group, ...given }, { setGroup, groups }) {
      const result = {}
      for (const action of ['add', 'remove', 'promote', 'demote']) {
        if (!given[action]?.length) continue
        const answer = await setGroup(group, { tag: action, attrs: {}, content: given[action].map(participant) })
        result[action] = answersAbout(getBinaryNodeChild(answer, action))
      }
      groups.forget(group)
      return result
    }
  },

  // Only what differs is changed, so a repetition has no effect that others see.
  'update-group': {
    async run({ group, ...wanted }, { sock, limits, groups }) {
      const before = await limits.run('w:g2', () => sock.groupMetadata(group))
      const changed = []
      for (const [name, { now, set }] of Object.entries(GROUP_SETTINGS)) {
        const value = wanted[name]
        if (value === undefined || value === now(before)) continue
        await limits.run('w:g2', () => set(sock, group, value))
        changed.push(name)
      }
      groups.forget(group)
      return { changed }
    }
  },

  'leave-group': {
    async run({ group }, { setGroup, groups }) {
      const id = group.split('@')[0]
      const leave = { tag: 'leave', attrs: {}, content: [{ tag: 'group', attrs: { id } }] }
      const answer = getBinaryNodeChild(await setGroup(ALL_GROUPS, leave), 'leave')
      for (const { attrs } of getBinaryNodeChildren(answer, 'group')) if (attrs.error) throw refused(attrs.error)
      groups.forget(group)
      return {}
    }
  },

  'read-chat': {
    async run({ chat, messages }, { sock, limits, groups }) {
      if (!messages.length) return { messages: 0 }
      const isGroup = isJidGroup(chat)
      const byLid = isGroup && (await groups.get(chat)).addressingMode === 'lid'
      const keys = messages.map(({ id, sender, senderLid }) => ({
        remoteJid: chat,
        id,
        fromMe: false,
        ...(isGroup && { participant: (byLid && senderLid) || sender })
      }))
      await limits.run('privacy', () => sock.readMessages(keys))
      return { messages: keys.length }
    }
  },

  'set-picture': {
    async run({ jid }, { sock, limits, file }) {
      const picture = file && { tag: 'picture', attrs: { type: 'image' }, content: await readFile(file) }
      const attrs = { to: S_WHATSAPP_NET, type: 'set', xmlns: PICTURE, ...(jid && { target: jid }) }
      const answer = await limits.run(PICTURE, () => sock.query({ tag: 'iq', attrs, content: picture ? [picture] : undefined }))
      return { id: getBinaryNodeChild(answer, 'picture')?.attrs.id ?? null }
    },

    async observe({ jid }, { sock, limits, me }) {
      const attrs = { to: S_WHATSAPP_NET, type: 'get', xmlns: PICTURE, target: jid ?? jidNormalizedUser(me().id) }
      const content = [{ tag: 'picture', attrs: { type: 'preview', query: 'url' } }]
      try {
        const answer = await limits.run(PICTURE, () => sock.query({ tag: 'iq', attrs, content }))
        return { id: getBinaryNodeChild(answer, 'picture')?.attrs.id ?? null }
      } catch (error) {
        if (error.data === 404) return { id: null } // it has none
        throw error
      }
    }
  },

  'revoke-invite': {
    run: async ({ group }, { setGroup }) => inviteOf(await setGroup(group, { tag: 'invite', attrs: {} })),
    observe: async ({ group }, { getGroup }) => inviteOf(await getGroup(group, { tag: 'invite', attrs: {} }))
  },

  'join-group': {
    async run({ code, group, admin, expiresS }, { setGroup }) {
      if (group) {
        await setGroup(group, { tag: 'accept', attrs: { code, expiration: String(expiresS ?? 0), admin } })
        return { id: group, waitsForApproval: false }
      }
      const answer = await setGroup(ALL_GROUPS, { tag: 'invite', attrs: { code } })
      const joined = getBinaryNodeChild(answer, 'group')
      const asked = getBinaryNodeChild(answer, 'membership_approval_request')
      return { id: (joined ?? asked)?.attrs.jid ?? null, waitsForApproval: !joined }
    }
  },

  'answer-join-requests': {
    async run({ group, ...given }, { setGroup, groups }) {
      const result = {}
      for (const action of ['approve', 'reject']) {
        if (!given[action]?.length) continue
        const body = { tag: action, attrs: {}, content: given[action].map(participant) }
        const answer = await setGroup(group, { tag: 'membership_requests_action', attrs: {}, content: [body] })
        result[action] = answersAbout(getBinaryNodeChild(getBinaryNodeChild(answer, 'membership_requests_action'), action))
      }
      groups.forget(group)
      return result
    }
  },

  // The text is set only where it differs, so that others don't see it set twice.
  'set-profile': {
    async run({ name, about }, parts) {
      if (about !== undefined && about !== (await aboutMe(parts))) {
        await parts.limits.run('status', () => parts.sock.updateProfileStatus(about))
      }
      if (name !== undefined) await rename(parts, name)
      return { ...(about !== undefined && { about }), ...(name !== undefined && { name }) }
    }
  },

  // Only what differs is changed, so a repetition has no effect.
  'set-privacy': {
    run: async (wanted, parts) => ({ changed: await setPrivacy(wanted, parts) })
  },

  'follow-channel': { run: (given, parts) => followChannel(given, parts) },

  block: {
    async run({ jid, blocked }, { sock, limits }) {
      try {
        await limits.run('blocklist', () => sock.updateBlockStatus(jid, blocked ? 'block' : 'unblock'))
      } catch (error) {
        if (error.output?.statusCode === 400 && error.data == null) throw new NotOnWhatsApp(error.message) // no hidden id
        throw error
      }
      return { blocked }
    }
  }
}

const GROUP_SETTINGS = {
  subject: { now: group => group.subject, set: (sock, jid, text) => sock.groupUpdateSubject(jid, text) },
  description: { now: group => group.desc ?? '', set: (sock, jid, text) => sock.groupUpdateDescription(jid, text || undefined) },
  announceOnly: {
    now: group => group.announce,
    set: (sock, jid, on) => sock.groupSettingUpdate(jid, on ? 'announcement' : 'not_announcement')
  },
  locked: { now: group => group.restrict, set: (sock, jid, on) => sock.groupSettingUpdate(jid, on ? 'locked' : 'unlocked') },
  joinApproval: {
    now: group => group.joinApprovalMode,
    set: (sock, jid, on) => sock.groupJoinApprovalMode(jid, on ? 'on' : 'off')
  },
  membersAdd: {
    now: group => group.memberAddMode,
    set: (sock, jid, on) => sock.groupMemberAddMode(jid, on ? 'all_member_add' : 'admin_add')
  },
  disappearingS: {
    now: group => group.ephemeralDuration || 0,
    set: (sock, jid, seconds) => sock.groupToggleEphemeral(jid, seconds)
  }
}

export class Operations {
  #running = new Map() // operation -> promise of its last step

  /**
   * @param sock    Baileys' socket
   * @param limits  the link's QueryLimits
   * @param groups  the link's Groups
   * @param me      () => {id, lid}, the account's own JIDs
   * @param settled  (event, data) => void: reports a setting of the account that was changed here
   */
  constructor({ sock, limits, groups, me, settled = () => {} }) {
    const ask = type => (to, node) =>
      limits.run('w:g2', () => sock.query({ tag: 'iq', attrs: { type, xmlns: 'w:g2', to }, content: [node] }))
    const isMe = jid => Boolean(jid) && [me().id, me().lid].some(own => own && jidNormalizedUser(own) === jidNormalizedUser(jid))
    this.parts = { sock, limits, groups, me, isMe, settled, setGroup: ask('set'), getGroup: ask('get') }
  }

  /** One step of an operation; it begins when the step before has ended, in whatever way. */
  async run({ operation, step, name, arguments: given, file }) {
    const steps = Object.hasOwn(OPERATIONS, name) ? OPERATIONS[name] : {}
    if (!steps[step]) throw new Error(`there is no operation ${name}, or it has no step ${step}`)
    const before = this.#running.get(operation) ?? Promise.resolve()
    const running = before.catch(() => {}).then(() => steps[step](given, { ...this.parts, file, key: keyOf(operation) }))
    this.#running.set(operation, running)
    try {
      return await running
    } finally {
      if (this.#running.get(operation) === running) this.#running.delete(operation)
    }
  }
}

const refused = code => Object.assign(new Error('refused'), { data: Number(code) })

// WhatsApp uses the key to recognise a repeated creation. It has the form of a message id.
const keyOf = operation => `3EB0${operation.replace(/^op_/, '').toUpperCase()}`.slice(0, 22)

const participant = jid => ({ tag: 'participant', attrs: { jid } })
const inviteOf = answer => ({ code: getBinaryNodeChild(answer, 'invite')?.attrs.code ?? null })
const groupJid = id => (id.includes('@') ? id : `${id}${ALL_GROUPS}`)
const person = ({ id, lid, phoneNumber }) => ({ jid: phoneNumber || id, lid: lid || (phoneNumber && id) })

const answersAbout = node =>
  getBinaryNodeChildren(node, 'participant').map(each => {
    const request = getBinaryNodeChild(each, 'add_request')
    return {
      jid: jidNormalizedUser(each.attrs.phone_number || each.attrs.jid),
      code: Number(each.attrs.error || OK),
      inviteCode: request?.attrs.code,
      inviteExpiresS: request?.attrs.expiration && Number(request.attrs.expiration)
    }
  })
