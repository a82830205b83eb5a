// Checks that Relay's own SDK takes quotes from the sandbox and follows them to the end.
//
//   mkdir sdk-check && cd sdk-check && npm init -y && npm install @relayprotocol/relay-sdk viem
//   cp <repository>/loadtest/relay-sandbox/sdk-check.mjs . && node sdk-check.mjs http://127.0.0.1:8090
//
// Against a running sandbox with its default key. Exits non-zero at the first surprise.
import assert from 'node:assert/strict'
import { convertViemChainToRelayChain, createClient, getClient } from '@relayprotocol/relay-sdk'
import { base } from 'viem/chains'

const SANDBOX = process.argv[2] ?? 'http://127.0.0.1:8090'
const BASE_USDC = '0x833589fcd6edb6e08f4c7c32d4f71b54bda02913'
const SETTLEMENT = '0x2222222222222222222222222222222222222222'

const solana = {
  id: 792703809, name: 'solana', displayName: 'Solana', vmType: 'svm', icon: {},
  currency: { id: 'sol', symbol: 'SOL', name: 'Solana', address: '11111111111111111111111111111111', decimals: 9 },
}
createClient({
  baseApiUrl: SANDBOX, source: 'crochet', apiKey: process.env.RELAY_API_KEY ?? 'relay-sandbox-key', pollingInterval: 50,
  confirmationPollingInterval: 50, chains: [convertViemChainToRelayChain(base), solana],
})

// A wallet whose transactions are deposits at the sandbox.
function wallet(vmType, address, chainId, sent) {
  return {
    vmType,
    getChainId: async () => chainId,
    address: async () => address,
    switchChain: async () => {},
    handleSignMessageStep: async () => assert.fail('nothing is to be signed'),
    handleSendTransactionStep: async (_chain, item, step) => {
      sent.push(item.data)
      const response = await fetch(`${SANDBOX}/sandbox/deposits`, { method: 'POST', body: JSON.stringify({ requestId: step.requestId }) })
      assert.equal(response.status, 200)
      return vmType === 'svm' ? '5'.repeat(88) : `0x${'1'.repeat(64)}`
    },
    handleConfirmTransactionStep: async (txHash) =>
      vmType === 'svm' ? { blockHash: 'b', blockNumber: 1, txHash } : { status: 'success', transactionHash: txHash, logs: [] },
  }
}

async function pay(name, vmType, user, chainId, currency) {
  const { actions } = getClient()
  const quote = await actions.getQuote({
    chainId, currency, toChainId: 8453, toCurrency: BASE_USDC, amount: '1000000', tradeType: 'EXACT_OUTPUT',
    user, recipient: SETTLEMENT, options: { useDepositAddress: true, strict: true, refundTo: user, ttl: 900 },
  })
  assert.equal(quote.details.currencyOut.amount, '1000000')
  assert.ok(quote.steps[0].depositAddress)
  const sent = []
  const states = new Set()
  const { data } = await actions.execute({
    quote, wallet: wallet(vmType, user, chainId, sent),
    onProgress: ({ currentStepItem }) => states.add(currentStepItem?.checkStatus),
  })
  assert.equal(sent.length, 1)
  assert.equal(data.steps[0].items[0].status, 'complete')
  // Where origin and destination are one chain the SDK is content with the receipt.
  let status
  for (let tries = 0; status !== 'success' && tries < 100; tries++) {
    status = (await (await fetch(`${SANDBOX}/intents/status/v3?requestId=${quote.steps[0].requestId}`)).json()).status
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.equal(status, 'success')
  console.log(`${name}: quoted ${quote.details.currencyIn.amountFormatted} ${quote.details.currencyIn.currency.symbol}, deposited, followed to success`, [...states].filter(Boolean))
}

await pay('Solana, SOL', 'svm', '9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM', 792703809, '11111111111111111111111111111111')
await pay('Solana, USDC', 'svm', '9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM', 792703809, 'EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v')
await pay('Base, ETH', 'evm', '0x1111111111111111111111111111111111111111', 8453, '0x0000000000000000000000000000000000000000')
await pay('Base, USDC', 'evm', '0x1111111111111111111111111111111111111111', 8453, BASE_USDC)

const refused = getClient().actions.getQuote({
  chainId: 8453, currency: BASE_USDC, toChainId: 8453, toCurrency: BASE_USDC, amount: '1', tradeType: 'EXACT_OUTPUT',
  user: SETTLEMENT, recipient: SETTLEMENT, options: { useDepositAddress: true, strict: true, refundTo: SETTLEMENT },
})
await assert.rejects(refused, (error) => {
  const body = error.response?.data ?? error.rawError ?? error
  assert.equal(body.errorCode, 'AMOUNT_TOO_LOW')
  return true
})
console.log('too small an amount: refused with AMOUNT_TOO_LOW')
