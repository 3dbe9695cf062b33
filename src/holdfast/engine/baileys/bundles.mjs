// Mends WhatsApp's answers to questions for devices' keys. One device that it has no keys of – gone a moment ago, or
// broken – makes Baileys throw the whole answer away, and a message to a group, or to a person with several devices,
// reaches nobody for as long as that lasts. Without it in the answer, the message goes to all the others.

/** Take devices without keys out of a frame, when it is such an answer. */
export function leaveOutKeyless(frame) {
  if (frame?.tag !== 'iq' || !Array.isArray(frame.content)) return
  const list = frame.content.find(({ tag }) => tag === 'list')
  if (Array.isArray(list?.content)) list.content = list.content.filter(user => !isKeyless(user))
}

const isKeyless = ({ tag, content }) => tag === 'user' && Array.isArray(content) && content.some(({ tag }) => tag === 'error')
