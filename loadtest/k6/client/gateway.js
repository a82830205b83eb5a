// One call through a gateway, counted as the gateway counts it: `gateway_answers` and `gateway_call` carry the
// `route` and `result` of its own `gateway_answers_total`.

import http from 'k6/http';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { api } from './stage.js';

/** What a call may be answered with when all is well: delivered, pending, to be paid, in progress. */
http.setResponseCallback(http.expectedStatuses(200, 202, 402, 409));

const answers = new Counter('gateway_answers');
const took = new Trend('gateway_call', true);

const ROUTE = 'call';
/** By each virtual user: the first tell enough. */
const COMPLAINTS_MAX = 1;
let complaints = 0;

/** The HTTP request of a call; `how`: `relay` (a payment), `through` (which gateway's turn), `expected` (statuses). */
export function request(buyer, listing, body, how) {
  const headers = {
    Authorization: `Bearer ${buyer.key}`,
    'Content-Type': 'application/json',
  };
  if (how.relay) headers['X-Crochet-Relay-Request-Id'] = how.relay;
  const params = { headers, tags: { route: ROUTE, name: 'POST /api/v1/gateway/{listingId}' } };
  if (how.expected) params.responseCallback = http.expectedStatuses(...how.expected);
  return ['POST', `${api(how.through)}/gateway/${listing.id}`, body, params];
}

/** Makes the call. */
export function call(buyer, listing, body, how) {
  return answer(http.request(...request(buyer, listing, body, how)));
}

/** Makes calls at the same moment. */
export function together(requests) {
  return http.batch(requests).map(answer);
}

/** Reads an answer and counts it. */
function answer(response) {
  const json = parse(response);
  const result = resultOf(response, json);
  answers.add(1, { route: ROUTE, result });
  took.add(response.timings.duration, { route: ROUTE, result });
  return { response, json, result, status: response.status, data: json.data || {}, error: json.error || {} };
}

/** The gateway's word for it: its outcome, or the contract's code. */
function resultOf(response, json) {
  if (response.status === 200) {
    return response.headers['Idempotent-Replayed'] === 'true' ? 'replayed' : 'delivered';
  }
  if (response.status === 202) return 'pending';
  return (json.error && json.error.code) || `status ${response.status}`;
}

/** The body as JSON; anything else is an empty object, which no check accepts. */
export function parse(response) {
  try {
    return response.json() || {};
  } catch (_) {
    return {};
  }
}

/** Checks an answer, and shows the first few that are wrong. */
export function holds(answer, what) {
  const right = check(answer, what);
  if (!right && complaints < COMPLAINTS_MAX) {
    complaints += 1;
    const wrong = Object.keys(what).filter((name) => !what[name](answer));
    const { status, error, body } = answer.response || answer;
    console.error(`not so: ${wrong.join(', ')}: ${status} ${error || ''} ${String(body).slice(0, 600)}`);
  }
  return right;
}
