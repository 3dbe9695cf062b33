// The account's privacy settings, under the names of `holdfast.session.queries`. The values are WhatsApp's own.

const SETTINGS = {
  lastSeen: { category: 'last', set: (sock, value) => sock.updateLastSeenPrivacy(value) },
  online: { category: 'online', set: (sock, value) => sock.updateOnlinePrivacy(value) },
  picture: { category: 'profile', set: (sock, value) => sock.updateProfilePicturePrivacy(value) },
  about: { category: 'status', set: (sock, value) => sock.updateStatusPrivacy(value) },
  readReceipts: { category: 'readreceipts', set: (sock, value) => sock.updateReadReceiptsPrivacy(value) },
  groupsAdd: { category: 'groupadd', set: (sock, value) => sock.updateGroupsAddPrivacy(value) },
  calls: { category: 'calladd', set: (sock, value) => sock.updateCallPrivacy(value) },
  messages: { category: 'messages', set: (sock, value) => sock.updateMessagesPrivacy(value) }
}

const KIND = 'privacy'

/** The settings as WhatsApp has them now. Baileys keeps them, and chooses the type of read receipts by them. */
export async function privacyNow({ sock, limits }) {
  const found = await limits.run(KIND, () => sock.fetchPrivacySettings(true))
  return Object.fromEntries(Object.entries(SETTINGS).map(([name, { category }]) => [name, found[category]]))
}

/** Set what differs; returns the names of what was changed. */
export async function setPrivacy(wanted, parts) {
  const { sock, limits } = parts
  const before = await privacyNow(parts)
  const changed = Object.keys(SETTINGS).filter(name => wanted[name] !== undefined && wanted[name] !== before[name])
  for (const name of changed) await limits.run(KIND, () => SETTINGS[name].set(sock, wanted[name]))
  if (changed.length) await privacyNow(parts)
  return changed
}
