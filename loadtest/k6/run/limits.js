// `thresholds.json` in k6's form.

const FILE = JSON.parse(open(import.meta.resolve('../thresholds.json')));

/** Everything the gateway may answer here. k6 keeps figures of a tag's value only where a threshold names it. */
const RESULTS = [
  'delivered',
  'replayed',
  'pending',
  'PAYMENT_REQUIRED',
  'GATEWAY_REQUEST_IN_PROGRESS',
  'RELAY_REQUEST_MISMATCH',
  'RELAY_REQUEST_NOT_FOUND',
  'INVALID_API_KEY',
  'SELLER_TIMEOUT',
  'SELLER_UNAVAILABLE',
  'SERVICE_UNAVAILABLE',
  'PAYMENT_PROVIDER_UNAVAILABLE',
  'RATE_LIMITED',
];
/** Limits that hold always: they only make k6 keep the figures. */
const KEPT = { counter: 'count>=0', trend: 'max>=0' };

/** The limits of the named script, of which `planned` iterations are due. */
export function limits(name, planned) {
  const all = {};
  for (const result of RESULTS) {
    all[`gateway_answers{result:${result}}`] = [KEPT.counter];
    all[`gateway_call{result:${result}}`] = [KEPT.trend];
  }
  for (const { metric, limit, share_of_planned: share } of [...FILE.every, ...FILE[name]]) {
    if (!metric) continue;
    const text = share === undefined ? limit : `count<=${Math.ceil(share * planned)}`;
    all[metric] = [...(all[metric] || []), text];
  }
  return all;
}

/** Whether a threshold says something. */
export function matters(text) {
  return !Object.values(KEPT).includes(text);
}
