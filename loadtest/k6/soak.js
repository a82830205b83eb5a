// A quiet trade that goes on: purchases and looks at the catalog. For `--duration 10m` and longer; the processes'
// memory before and after is compared.

import { look } from './client/catalog.js';
import { agrees } from './client/history.js';
import { buy, order } from './client/purchase.js';
import { buyers, listings, nth, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

const AUDITED = 50;

const { rate, seconds } = asked({ rate: 24, seconds: 40 });

export const options = made('soak', {
  purchases: steady('purchase', { rate: rate / 3, seconds, each: 1 }),
  looks: steady('browse', { rate: (rate * 2) / 3, seconds, each: 0.5 }),
});

export function purchase() {
  const bought = order(nth(buyers, turn()), nth(listings, turn()));
  const offer = buy(bought);
  if (offer && turn() % AUDITED === 0) agrees(bought, offer);
}

export function browse() {
  look(turn());
}

export const handleSummary = summary('soak');
