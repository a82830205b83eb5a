// Who and what there is to work with. `cargo dev k6` registers them and writes the file before k6 starts:
// wallets sign in Rust, where it is short.

import exec from 'k6/execution';
import { SharedArray } from 'k6/data';

const read = () => JSON.parse(open(__ENV.CROCHET_STAGE));

/** `{id, key}`: agents that buy. */
export const buyers = new SharedArray('buyers', () => read().buyers);
/** `{id, slug, price_micros, seller_id, seller_key}`: what is sold and answered by the demo seller. */
export const listings = new SharedArray('listings', () => read().listings);

const stage = read();

/** Differs from run to run, so that no body was ever quoted before. */
export const run = stage.run;
/** The listing that everybody wants. */
export const hot = stage.hot;
/** A listing with little patience and few places: `timeout_ms` is its endpoint's. */
export const slow = stage.slow;
/** A key that was given out and taken back. */
export const gone = stage.gone;
/** Where the payment provider's stand-in takes deposits. */
export const relay = stage.relay;

/** The nth of a list that begins again at its end. */
export function nth(list, number) {
  return list[number % list.length];
}

/** Gateways take turns; the one after the given turn's is another one, where there are two. */
export function api(turn) {
  return `${nth(stage.gateways, turn)}/api/v1`;
}

/** The number of this iteration among all of its scenario, over all virtual users. */
export function turn() {
  return exec.scenario.iterationInTest;
}

/** A text that no other iteration of any run sends. */
export function unique() {
  return `${run}-${exec.scenario.name}-${turn()}`;
}
