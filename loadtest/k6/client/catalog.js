// What somebody looks at who has not bought yet.

import { Trend } from 'k6/metrics';
import { holds, parse } from './gateway.js';
import { get } from './history.js';
import { listings, nth, run } from './stage.js';

/** Pages of the catalog, by `route`. */
const took = new Trend('catalog_page', true);

const LISTINGS = '/api/v1/listings';

/** One look each; `right` is what the answer's JSON must hold. */
const LOOKS = [
  { path: '/listings', route: LISTINGS, right: isPage },
  { path: '/listings?sort=popular&limit=10', route: LISTINGS, right: isPage },
  { path: '/listings?sort=rating&pricing_model=per_call', route: LISTINGS, right: isPage },
  { path: '/listings?sort=price_low&max_price=1', route: LISTINGS, right: isRising },
  { path: '/listings?q=echo', route: LISTINGS, right: isPage },
  { path: '/listings?q=ecko', route: LISTINGS, right: isPage },
  { path: () => `/listings?q=${run}`, route: LISTINGS, right: (json) => json.data.length > 0 },
  { path: '/listings?limit=3', route: LISTINGS, right: isPage, more: true },
  { path: '/categories', route: '/api/v1/categories', right: (json) => json.data.length >= 8 },
  { path: (l) => `/listings/${l.id}`, route: `${LISTINGS}/{id}`, right: isListing },
  { path: (l) => `/listings/${l.slug}`, route: `${LISTINGS}/{id}`, right: isListing },
  { path: (l) => `/reviews/${l.id}`, route: '/api/v1/reviews/{listingId}', right: (json) => json.summary.count === 0 },
  { path: (l) => `/agents/${l.seller_id}`, route: '/api/v1/agents/{id}', right: (json, l) => json.data.id === l.seller_id },
  { path: (l) => `/agents/${l.seller_id}/score`, route: '/api/v1/agents/{id}/score', right: (json) => json.data.score >= 0 },
];

/** The turn's look at the catalog. */
export function look(turn) {
  const { path, route, right, more } = nth(LOOKS, turn);
  const listing = nth(listings, turn);
  const page = visit(turn, typeof path === 'function' ? path(listing) : path, route, (json) => right(json, listing));
  const cursor = more && page && page.pagination.next_cursor;
  if (cursor) {
    const seen = page.data.map((row) => row.id);
    const next = `/listings?limit=3&cursor=${encodeURIComponent(cursor)}`;
    const unseen = (json) => json.data.every((row) => !seen.includes(row.id));
    visit(turn, next, route, (json) => isPage(json) && unseen(json));
  }
}

function visit(turn, path, route, right) {
  const response = get(turn, path, route);
  took.add(response.timings.duration, { route });
  const json = parse(response);
  const whole = response.status === 200 && json.success === true;
  const good = holds(response, {
    'a page is there': () => whole,
    'a page has what was asked for': () => whole && right(json),
  });
  return good ? json : null;
}

function isPage(json) {
  return Array.isArray(json.data) && json.data.length > 0 && json.data.every((row) => row.status === 'active');
}

function isRising(json) {
  const prices = json.data.map((row) => row.pricing_amount_micros);
  return isPage(json) && prices.every((price, place) => place === 0 || prices[place - 1] <= price);
}

function isListing(json, listing) {
  const { data } = json;
  return data.id === listing.id && data.slug === listing.slug && data.pricing_amount_micros === listing.price_micros;
}
