// Everybody wants one listing, and every payment is redeemed by two gateways at the same moment: one of them
// delivers, the other says that it is in progress or gives the stored answer, and the seller is called once.

import { sleep } from 'k6';
import { holds, request, together } from './client/gateway.js';
import { deposit, ended, isOurs, isUnfinished, order, quote, received } from './client/purchase.js';
import { buyers, hot, nth, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

const PAUSE_SECONDS = 0.1;
const ROUNDS_MAX = 300;

export const options = made('hot_listing', {
  hot_listing: steady('default', { ...asked({ rate: 12, seconds: 30 }), each: 1 }),
});

export default function () {
  const wanted = order(nth(buyers, turn()), hot);
  const offer = quote(wanted, false);
  const paid = Date.now();
  if (!offer || !deposit(offer)) {
    ended(false);
    return;
  }
  const answers = race(wanted, offer);
  const last = answers.slice(-2);
  const done = last.every((answer) => answer.status === 200);
  if (done) received(paid);
  ended(
    last.every((answer) => isOurs(answer, wanted, offer)) &&
      holds(last[0], {
        'both have the same bytes': () => last[0].response.body === last[1].response.body,
        'one of all tries delivered': () => answers.filter((answer) => answer.result === 'delivered').length === 1,
      }),
  );
}

/** Both gateways redeem until both have the answer; every answer on the way. */
function race(wanted, offer) {
  const answers = [];
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const pair = together(
      [0, 1].map((side) => request(wanted.buyer, hot, wanted.body, { relay: offer.relay, through: wanted.through + side })),
    );
    answers.push(...pair);
    if (!pair.some(isUnfinished)) break;
    sleep(PAUSE_SECONDS);
  }
  return answers;
}

export const handleSummary = summary('hot_listing');
