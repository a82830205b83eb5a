// A calm trade, then many times as many buyers from one moment to the next, then calm again. Whoever is refused meanwhile
// for a want of room comes again; nobody loses a payment, and afterwards it is as it was.

import exec from 'k6/execution';
import { buy, order } from './client/purchase.js';
import { buyers, listings, nth, turn } from './client/stage.js';
import { asked, burst, options as made, phase } from './run/load.js';
import { summary } from './run/summary.js';

const SPIKE = 10;
const PATIENT = { alsoFull: true, expected: [200, 202, 402, 409, 503] };

const { rate, seconds } = asked({ rate: 80, seconds: 30 });

export const options = made('spike', {
  spike: burst('default', { base: Math.max(1, Math.round(rate / SPIKE)), rate, seconds, each: 1 }),
});

export default function () {
  exec.vu.metrics.tags.phase = phase(exec.scenario.startTime, seconds);
  buy(order(nth(buyers, turn()), nth(listings, turn())), PATIENT);
}

export const handleSummary = summary('spike');
