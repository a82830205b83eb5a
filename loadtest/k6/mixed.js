// A market day: half look around, some ask for a price, some buy, some read their books, and some get it wrong.

import { look } from './client/catalog.js';
import { call, holds } from './client/gateway.js';
import { agrees } from './client/history.js';
import { buy, order, quote } from './client/purchase.js';
import { buyers, gone, listings, nth, turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

const { rate, seconds } = asked({ rate: 60, seconds: 30 });
const share = (part, exec, each) => steady(exec, { rate: rate * part, seconds, each });

export const options = made('mixed', {
  looks: share(0.5, 'browse', 0.5),
  quotes: share(0.2, 'ask', 0.5),
  purchases: share(0.15, 'purchase', 1),
  books: share(0.05, 'books', 1.5),
  mistakes: share(0.1, 'mistake', 0.5),
});

export function browse() {
  look(turn());
}

export function ask() {
  quote(order(nth(buyers, turn()), nth(listings, turn())), false);
}

export function purchase() {
  buy(order(nth(buyers, turn()), nth(listings, turn())));
}

/** Buys, and reads history and ledgers at once: they are as durable as the answer. */
export function books() {
  const bought = order(nth(buyers, turn()), nth(listings, turn()));
  const offer = buy(bought);
  if (offer) agrees(bought, offer);
}

/** Each refusal is the contract's, and costs nothing. */
export function mistake() {
  const wanted = order(nth(buyers, turn()), nth(listings, turn()));
  const { buyer, listing, body, through } = wanted;
  const refused = (status, code) => ({ [`refused with ${code}`]: (a) => a.status === status && a.result === code });
  if (turn() % 2 === 0) {
    holds(call(gone, listing, body, { through, expected: [401] }), refused(401, 'INVALID_API_KEY'));
    return;
  }
  const offer = quote(wanted, false);
  if (!offer) return;
  const { relay } = offer;
  holds(call(buyer, listing, `${body} `, { relay, through }), refused(409, 'RELAY_REQUEST_MISMATCH'));
  const other = nth(buyers, turn() + 1);
  holds(call(other, listing, body, { relay, through, expected: [404] }), refused(404, 'RELAY_REQUEST_NOT_FOUND'));
}

export const handleSummary = summary('mixed');
