// Fixes WhatsApp's answers to queries for devices' keys. One device without keys – removed a moment ago, or broken –
// makes Baileys discard the whole answer, and a message to a group, or to a person with several devices, reaches nobody
// as long as that device is listed. Without it in the answer, the message goes to all other devices.

/** Remove devices without keys from a frame, if it is such an answer. */
export function removeKeylessDevices(frame) {
  if (frame?.tag !== 'iq' || !Array.isArray(frame.content)) return
  const list = frame.content.find(({ tag }) => tag === 'list')
  if (Array.isArray(list?.content)) list.content = list.content.filter(user => !isKeyless(user))
}

const isKeyless = ({ tag, content }) => tag === 'user' && Array.isArray(content) && content.some(({ tag }) => tag === 'error')
