// A purchase from the 402 to the replay, each answer held to the contract.

import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import { call, holds } from './gateway.js';
import { relay, turn, unique } from './stage.js';

/** Whether a purchase that was begun ended with its answer, everything as it must be. */
const right = new Rate('purchases_right');
/** Purchases whose answer was received, once each: what the ledger must show. */
const delivered = new Counter('purchases_delivered');
/** From the deposit to the answer, the provider's confirmation and all retries included. */
const waited = new Trend('deposit_to_answer', true);

/** Between two tries of a payment under way. `Retry-After` would measure our own patience. */
const PAUSE_SECONDS = 0.1;
/** The longest a paid call may go on being unfinished. */
const PATIENCE_MS = 30000;

/** What one buys: the body is made once, because the payment is bound to its bytes. */
export function order(buyer, listing, seller) {
  const input = unique();
  return { buyer, listing, input, body: JSON.stringify(seller ? { input, seller } : { input }), through: turn() };
}

/** Asks without a payment; the quote, or nothing where the answer was wrong. */
export function quote(order, reused, options = {}) {
  const asked = patiently(order, { through: order.through, expected: options.expected }, options);
  const payment = asked.data.payment || {};
  const requirements = payment.requirements || {};
  const good = holds(asked, {
    '402 asks for a payment': (a) => a.status === 402 && a.result === 'PAYMENT_REQUIRED',
    '402 asks for the price': () => (payment.amount || {}).amount_micros === order.listing.price_micros,
    '402 says how to pay': () => /^\d+$/.test(requirements.amount) && Boolean(requirements.deposit_address),
    '402 names payment and request': (a) =>
      /^0x[0-9a-f]{64}$/.test(payment.relay_request_id) &&
      /^gw_req_/.test(payment.request_id) &&
      a.response.headers['X-Crochet-Request-Id'] === payment.request_id,
    '402 says whether it was given before': () => payment.reused === reused,
  });
  return good ? { relay: payment.relay_request_id, request: payment.request_id } : null;
}

/** Pays at the sandbox, as a wallet would on chain. */
export function deposit(quote) {
  const paid = http.post(`${relay}/sandbox/deposits`, JSON.stringify({ requestId: quote.relay }), {
    tags: { route: 'sandbox', name: 'POST /sandbox/deposits' },
  });
  return holds(paid, { 'the deposit is taken': (r) => r.status === 200 });
}

/** Retries with the payment until it is answered. `options`: see [patiently]. */
export function redeem(order, quote, options = {}) {
  const how = { relay: quote.relay, through: order.through, expected: options.expected };
  return patiently(order, how, options);
}

/**
 * Sends the same call until it is neither pending nor in progress. `options`: `expected` statuses, and `alsoFull`,
 * with which a seller or a gateway that has no room (503) is waited for, too.
 */
function patiently(order, how, options) {
  const begun = Date.now();
  for (;;) {
    const answer = call(order.buyer, order.listing, order.body, how);
    const full = answer.status === 503 && options.alsoFull;
    if (!(isUnfinished(answer) || full) || Date.now() - begun > PATIENCE_MS) return answer;
    if (full) {
      holds(answer, { '503 says when to come again': (a) => Number(a.response.headers['Retry-After']) > 0 });
    }
    sleep(PAUSE_SECONDS);
  }
}

/** Whether the same request is to be sent again. */
export function isUnfinished(answer) {
  return answer.status === 202 || answer.result === 'GATEWAY_REQUEST_IN_PROGRESS';
}

/** An answer that was paid for: this request's, charged right. */
export function isOurs(answer, order, quote) {
  const { data } = answer;
  return holds(answer, {
    '200 answers a paid call': (a) => a.status === 200 && a.json.success === true && data.billable === true,
    '200 is of this request': (a) =>
      data.request_id === quote.request && a.response.headers['X-Crochet-Request-Id'] === quote.request,
    '200 carries the seller\'s answer to this body': () =>
      data.seller_status_code === 200 &&
      data.seller_response_encoding === 'json' &&
      (data.seller_response || {}).echo === order.input,
    '200 charges the price': () => sameMoney(data, charge(order.listing.price_micros)),
  });
}

/** What a price comes to: the fee is 4.9 %, rounded half up; cents are for showing. */
export function charge(micros) {
  const fee = Math.floor((micros * 49000 + 500000) / 1000000);
  const cents = (amount) => Math.floor((amount + 5000) / 10000);
  return {
    charged_amount: { amount_cents: cents(micros), amount_micros: micros, currency: 'USD' },
    fees: {
      fee_rate: 0.049,
      fee_amount_cents: cents(fee),
      seller_receives_cents: cents(micros) - cents(fee),
      fee_amount_micros: fee,
      seller_receives_micros: micros - fee,
    },
  };
}

function sameMoney(data, wanted) {
  return Object.entries(wanted).every(([part, fields]) =>
    Object.entries(fields).every(([name, value]) => (data[part] || {})[name] === value),
  );
}

/** The delivered call again, through another gateway: the same bytes. */
export function replay(order, quote, answer) {
  const again = call(order.buyer, order.listing, order.body, { relay: quote.relay, through: order.through + 1 });
  return holds(again, {
    'the replay is said to be one': (a) => a.result === 'replayed',
    'the replay is the same bytes': (a) => a.response.body === answer.response.body,
  });
}

/** Counts a purchase whose answer is here. */
export function received(since) {
  delivered.add(1);
  waited.add(Date.now() - since);
}

/** Counts how a purchase ended. */
export function ended(well) {
  right.add(well);
  return well;
}

/** The whole life: 402, deposit, retries until 200, replay. Gives the quote of a purchase that went right. */
export function buy(order, options = {}) {
  const offer = quote(order, false, options);
  const paid = Date.now();
  if (!offer || !deposit(offer)) {
    ended(false);
    return null;
  }
  const answer = redeem(order, offer, options);
  if (answer.status === 200) received(paid);
  const well = isOurs(answer, order, offer) && replay(order, offer, answer);
  return ended(well) ? offer : null;
}
