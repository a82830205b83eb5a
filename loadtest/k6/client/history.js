// What the API tells afterwards about a purchase: its history, and both sides' money.

import http from 'k6/http';
import { holds, parse } from './gateway.js';
import { charge } from './purchase.js';
import { api } from './stage.js';

/** History, the buyer's ledger and the seller's agree with what was bought. */
export function agrees(order, quote) {
  const micros = order.listing.price_micros;
  const { fees } = charge(micros);
  const row = get(order.through, `/gateway-requests/${quote.request}`, '/api/v1/gateway-requests/{id}', order.buyer.key);
  const bought = ledger(order.through, quote, order.buyer.key);
  const sold = ledger(order.through + 1, quote, order.listing.seller_key);
  return (
    holds(row, {
      'history: delivered in one attempt': (r) => {
        const { status, attempts, billable } = parse(r).data || {};
        return status === 'delivered' && attempts === 1 && billable === true;
      },
    }) &&
    holds(bought, { 'ledger: the buyer paid the price once': (r) => amounts(r) === `gateway_payment ${micros}` }) &&
    holds(sold, {
      'ledger: the seller got the price less the fee': (r) =>
        amounts(r) === `marketplace_fee ${fees.fee_amount_micros}, seller_credit ${fees.seller_receives_micros}`,
    })
  );
}

/** The entries of an answer as one line of text. */
function amounts(response) {
  const entries = (parse(response).data || []).map((entry) => `${entry.type} ${entry.amount_micros}`);
  return entries.sort().join(', ');
}

function ledger(turn, quote, key) {
  return get(turn, `/ledger?request_id=${quote.request}`, '/api/v1/ledger', key);
}

/** `GET` with a key; `route` is the path's template, as the control plane's metrics have it. */
export function get(turn, path, route, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  return http.get(`${api(turn)}${path}`, { headers, tags: { route, name: `GET ${route}` } });
}
