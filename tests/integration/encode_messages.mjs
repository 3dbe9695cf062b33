// Standard input: a JSON list of WAProto messages, bytes as {"$b64": …}. Standard output: each, encoded, in base64, as JSON.
import { readFileSync } from 'node:fs'

import { proto } from 'baileys'

const bytes = (_, value) => (value?.$b64 ? Buffer.from(value.$b64, 'base64') : value)
const encoded = message => Buffer.from(proto.Message.encode(proto.Message.fromObject(message)).finish()).toString('base64')
process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, 'utf8'), bytes).map(encoded)))
