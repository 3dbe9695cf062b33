// The account's own profile.

import { jidNormalizedUser } from 'baileys'

/** The text that the account shows about itself, as WhatsApp has it now; empty when there is none. */
export async function aboutMe({ sock, limits }) {
  const me = jidNormalizedUser(sock.authState.creds.me.id)
  const [found] = (await limits.run('usync', () => sock.fetchStatus(me))) ?? []
  return found?.status?.status ?? ''
}
