// Channels (newsletters): those that the account follows, which Baileys can't list, and one by its address.
//
// They are GraphQL queries. Errors are part of a successful answer; here they have their code where other errors have it.

import { getBinaryNodeChild, S_WHATSAPP_NET } from 'baileys'

import { NotThere } from './refusals.mjs'

const KIND = 'w:mex'
const FOLLOWED = { id: '6388546374527196', path: 'xwa2_newsletter_subscribed' } // source: whatsmeow, newsletter.go

/** The channels that the account follows. */
export async function followedChannels({ sock, limits }) {
  const query = { tag: 'query', attrs: { query_id: FOLLOWED.id }, content: Buffer.from(JSON.stringify({ variables: {} })) }
  const iq = { tag: 'iq', attrs: { to: S_WHATSAPP_NET, type: 'get', xmlns: KIND }, content: [query] }
  const listed = await ask(limits, async () => {
    const { data, errors } = JSON.parse(Buffer.from(getBinaryNodeChild(await sock.query(iq), 'result').content).toString())
    if (errors?.length) throw Object.assign(new Error(errors[0].message), { data: errors[0] })
    return data[FOLLOWED.path]
  })
  return (listed ?? []).filter(each => each?.id).map(described)
}

/** One channel: by JID, or by the code of its invite link. */
export async function channelNamed({ jid, invite }, { sock, limits }) {
  const found = await ask(limits, () => (jid ? sock.newsletterMetadata('jid', jid) : sock.newsletterMetadata('invite', invite)))
  if (!found?.thread_metadata) throw new NotThere('there is no such channel')
  return described(found)
}

/** Follow a channel, or leave it. */
export async function followChannel({ channel, followed }, { sock, limits }) {
  await ask(limits, () => (followed ? sock.newsletterFollow(channel) : sock.newsletterUnfollow(channel)))
  return { followed }
}

const ask = (limits, query) =>
  limits.run(KIND, async () => {
    try {
      return await query()
    } catch (error) {
      const code = Number(error.data?.extensions?.error_code)
      throw code ? Object.assign(new Error(error.message), { data: code }) : error
    }
  })

const described = ({ id, thread_metadata: thread, viewer_metadata: viewer }) => ({
  id,
  name: thread?.name?.text || undefined,
  description: thread?.description?.text || undefined,
  invite: thread?.invite || undefined,
  followers: Number(thread?.subscribers_count) || 0,
  createdAtS: Number(thread?.creation_time) || undefined,
  verified: thread?.verification === 'VERIFIED',
  role: viewer?.role?.toLowerCase(),
  muted: viewer?.mute === 'ON'
})
