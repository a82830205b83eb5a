// One seller takes her time, and for every tenth call more than she may: her buyers wait, are told so at the deadline,
// or come again when she has room. Whoever buys elsewhere meanwhile must not notice.

import { Trend } from 'k6/metrics';
import { holds } from './client/gateway.js';
import { buy, deposit, ended, isOurs, order, quote, received, redeem } from './client/purchase.js';
import { buyers, listings, nth, slow, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

/** What a delivered call took beside the seller's own time. */
const over = new Trend('over_the_seller', true);

const DELAY_MS = 600;
const TOO_LATE = 10;
/** Her buyers may meet the deadline and a full house; both are the right answer to them. */
const HERS = { alsoFull: true, expected: [200, 202, 402, 409, 503, 504] };

const { rate, seconds } = asked({ rate: 20, seconds: 30 });

export const options = made('seller_slow', {
  slow: steady('atTheSlowOne', { rate: rate / 2, seconds, each: 3 }),
  quick: steady('elsewhere', { rate: rate / 2, seconds, each: 1 }),
});

export function atTheSlowOne() {
  const late = turn() % TOO_LATE === 0;
  const wanted = order(nth(buyers, turn()), slow, { delay_ms: late ? slow.timeout_ms * 2 : DELAY_MS });
  const offer = quote(wanted, false, HERS);
  const paid = Date.now();
  if (!offer || !deposit(offer)) {
    ended(false);
    return;
  }
  const answer = redeem(wanted, offer, HERS);
  if (late) {
    ended(isToldInTime(answer, offer));
    return;
  }
  if (answer.status === 200) received(paid);
  if (ended(isOurs(answer, wanted, offer)) && answer.result === 'delivered') {
    over.add(answer.response.timings.duration - DELAY_MS);
  }
}

/** At the deadline, not when the seller is done; nothing is charged, and the payment stays good. */
function isToldInTime(answer, offer) {
  const { data } = answer;
  return holds(answer, {
    '504 names the seller\'s deadline': (a) => a.status === 504 && a.result === 'SELLER_TIMEOUT',
    '504 comes at the deadline': (a) =>
      a.response.timings.duration >= slow.timeout_ms && a.response.timings.duration < slow.timeout_ms * 2,
    '504 charges nothing': () => data.billable === false && data.request_id === offer.request,
    '504 leaves the payment good': () => data.attempts === 1 && data.attempts_remaining > 0,
  });
}

export function elsewhere() {
  buy(order(nth(buyers, turn()), nth(listings, turn())));
}

export const handleSummary = summary('seller_slow');
