// The same calls as in signatures.py, verified by the official library in JavaScript.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'

const verifies = (secret, { body, headers }) => {
  try {
    new Webhook(secret).verify(body, headers)
    return true
  } catch (error) {
    if (error.name !== 'WebhookVerificationError' && error.constructor.name !== 'WebhookVerificationError') throw error
    return false
  }
}

const cases = JSON.parse(readFileSync('calls.json', 'utf8'))
for (const { secrets, other, call, altered } of cases) {
  for (const secret of secrets) {
    assert(verifies(secret, call), JSON.stringify(call.headers))
    for (const wrong of altered) assert(!verifies(secret, wrong), JSON.stringify(wrong.headers))
  }
  assert(!verifies(other, call), JSON.stringify(call.headers))
}
assert(cases.length > 0)
console.log(`JavaScript: ${cases.length} calls, the last under both secrets`)
