// The privacy tokens in a history. WhatsApp refuses some messages to people if they come without the person's token.
// Baileys stores the tokens of a history that it reads; this does the same for a history that Holdfast reads.

import { jidNormalizedUser, toNumber } from 'baileys'
import { buildMergedTcTokenIndexWrite, resolveTcTokenJid } from 'baileys/lib/Utils/tc-token-utils.js'

/** Store the tokens of conversations that are newer than the stored ones. */
export async function storePrivacyTokens(conversations, { authState: { keys }, signalRepository: { lidMapping } }) {
  const found = new Map() // JID -> what the history has
  for (const { id, ...given } of conversations) {
    if (!given.tcToken?.length || !toNumber(given.tcTokenTimestamp)) continue
    found.set(await resolveTcTokenJid(jidNormalizedUser(id), jid => lidMapping.getLIDForPN(jid)), given)
  }
  const stored = await keys.get('tctoken', [...found.keys()])
  const newer = {}
  for (const [jid, { tcToken, tcTokenTimestamp, tcTokenSenderTimestamp }] of found) {
    const timestamp = toNumber(tcTokenTimestamp)
    if (Number(stored[jid]?.timestamp ?? 0) >= timestamp) continue
    newer[jid] = { ...stored[jid], token: Buffer.from(tcToken), timestamp: String(timestamp) }
    if (tcTokenSenderTimestamp) newer[jid].senderTimestamp = toNumber(tcTokenSenderTimestamp)
  }
  if (!Object.keys(newer).length) return
  await keys.set({ tctoken: { ...newer, ...(await buildMergedTcTokenIndexWrite(keys, Object.keys(newer))) } })
}
