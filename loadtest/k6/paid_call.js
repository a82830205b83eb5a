// Strangers buy one call each: 402, deposit, retries until 200, replay. Of every tenth purchase the history and
// both ledgers are read, too.

import { agrees } from './client/history.js';
import { buy, order } from './client/purchase.js';
import { buyers, listings, nth, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

const AUDITED = 10;

export const options = made('paid_call', {
  paid_call: steady('default', { ...asked({ rate: 20, seconds: 30 }), each: 1 }),
});

export default function () {
  const bought = order(nth(buyers, turn()), nth(listings, turn()));
  const offer = buy(bought);
  if (offer && turn() % AUDITED === 0) agrees(bought, offer);
}

export const handleSummary = summary('paid_call');
