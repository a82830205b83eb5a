// When iterations begin: at a rate, however long the ones before them take (open loop), so that a slow answer
// does not make the load lighter.

import { limits } from './limits.js';

/** Iterations may finish after the last has begun; a purchase that is cut off would be missing in the books. */
const GRACEFUL_STOP = '60s';
/** Rates are given for so many seconds, so that a share of a rate need not be whole. */
const UNIT_SECONDS = 10;

/** What was asked for on the command line, or else these defaults. */
export function asked(defaults) {
  return {
    rate: Number(__ENV.CROCHET_RATE) || defaults.rate,
    seconds: Number(__ENV.CROCHET_SECONDS) || defaults.seconds,
  };
}

/** `rate` iterations of `exec` a second; `each` is how many seconds one may take before there are too few users. */
export function steady(exec, { rate, seconds, each }) {
  const users = Math.ceil(rate * each) + 2;
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate: Math.max(1, Math.round(rate * UNIT_SECONDS)),
    timeUnit: `${UNIT_SECONDS}s`,
    duration: `${seconds}s`,
    preAllocatedVUs: users,
    maxVUs: users * 4,
    gracefulStop: GRACEFUL_STOP,
  };
}

/** Calm at `base` a second, then at once `rate` a second, then calm again for longer. */
export function burst(exec, { base, rate, seconds, each }) {
  const stage = (share, target) => ({ duration: `${Math.round(seconds * share * 1000)}ms`, target });
  const jump = (target) => ({ duration: '0s', target });
  return {
    executor: 'ramping-arrival-rate',
    exec,
    startRate: base,
    timeUnit: '1s',
    stages: [stage(CALM, base), jump(rate), stage(BURST, rate), jump(base), stage(1 - CALM - BURST, base)],
    preAllocatedVUs: Math.ceil(rate * each) + 2,
    maxVUs: Math.ceil(rate * each) * 4,
    gracefulStop: GRACEFUL_STOP,
  };
}

const CALM = 0.2;
const BURST = 0.3;

/** Which part of a burst this moment is in: `calm`, `burst`, `after`. */
export function phase(begun, seconds) {
  const share = (Date.now() - begun) / (seconds * 1000);
  if (share < CALM) return 'calm';
  return share < CALM + BURST ? 'burst' : 'after';
}

/** How many iterations a scenario is to begin. */
function planned(scenario) {
  const seconds = (text) => (text.endsWith('ms') ? parseInt(text, 10) / 1000 : parseInt(text, 10));
  if (!scenario.stages) return (scenario.rate * seconds(scenario.duration)) / seconds(scenario.timeUnit);
  return scenario.stages.reduce((sum, stage) => sum + stage.target * seconds(stage.duration), 0);
}

/** k6's options for the named script. */
export function options(name, scenarios) {
  const due = Object.values(scenarios).reduce((sum, scenario) => sum + planned(scenario), 0);
  return {
    scenarios,
    thresholds: limits(name, due),
    summaryTrendStats: ['count', 'med', 'p(95)', 'p(99)', 'max'],
  };
}
