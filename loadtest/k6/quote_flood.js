// Many ask and nobody pays. Every second asks twice with the same bytes, through two gateways: the quote must be
// the same one, and the provider is not asked again.

import { holds } from './client/gateway.js';
import { order, quote } from './client/purchase.js';
import { buyers, listings, nth, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

export const options = made('quote_flood', {
  quote_flood: steady('default', { ...asked({ rate: 100, seconds: 30 }), each: 0.5 }),
});

export default function () {
  const wanted = order(nth(buyers, turn()), nth(listings, turn()));
  const first = quote(wanted, false);
  if (!first || turn() % 2 === 0) return;
  const again = quote({ ...wanted, through: wanted.through + 1 }, true);
  if (again) {
    holds({ status: 402 }, {
      'the same call has the same quote': () => again.relay === first.relay && again.request === first.request,
    });
  }
}

export const handleSummary = summary('quote_flood');
