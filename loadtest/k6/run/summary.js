// What a run was, for a person to read; the same as JSON for programs.

import { matters } from './limits.js';

/** The `handleSummary` of the named script. */
export function summary(name) {
  return (data) => {
    const out = { stdout: text(name, data) };
    if (__ENV.CROCHET_RESULT) out[__ENV.CROCHET_RESULT] = JSON.stringify(data, null, 2);
    return out;
  };
}

function text(name, data) {
  const parts = [[head(name, data)], answers(data.metrics), others(data.metrics), verdicts(data.metrics)];
  const shown = parts.filter((lines) => lines.length > 0).map((lines) => lines.join('\n'));
  return `\n${shown.join('\n\n')}\n`;
}

function head(name, { metrics, state }) {
  const of = (metric) => (metrics[metric] ? metrics[metric].values : {});
  const seconds = state.testRunDurationMs / 1000;
  const { count: requests = 0, rate = 0 } = of('http_reqs');
  const parts = [
    `${of('iterations').count || 0} iterations in ${seconds.toFixed(1)} s`,
    `${of('dropped_iterations').count || 0} not begun`,
    `${requests} requests, ${rate.toFixed(0)}/s`,
    `${(of('vus_max').max || of('vus_max').value || 0)} users at most`,
  ];
  return `  ${name}: ${parts.join(' · ')}`;
}

const COLUMNS = ['count', 'med', 'p(95)', 'p(99)', 'max'];

/** What the gateways answered, and how long it took. */
function answers(metrics) {
  const rows = tagged(metrics, 'gateway_call').sort((one, other) => other.values.count - one.values.count);
  return table('the gateways answered', rows);
}

/** All other times that this script took. */
function others(metrics) {
  const ours = ['deposit_to_answer', 'over_the_seller', 'catalog_page'];
  const rows = ours.filter((name) => metrics[name]).map((name) => ({ label: name.replace(/_/g, ' '), values: metrics[name].values }));
  return table('from outside', rows);
}

function tagged(metrics, name) {
  const form = new RegExp(`^${name}\\{result:([^,]*)\\}$`);
  return Object.entries(metrics)
    .filter(([key, metric]) => form.test(key) && metric.values.count > 0)
    .map(([key, metric]) => ({ label: form.exec(key)[1], values: metric.values }));
}

function table(title, rows) {
  if (rows.length === 0) return [];
  const cells = rows.map(({ label, values }) => [
    label,
    String(values.count),
    ...COLUMNS.slice(1).map((column) => `${values[column].toFixed(1)} ms`),
  ]);
  return [[title, 'times', 'p50', 'p95', 'p99', 'max'], ...cells].map(
    ([label, ...figures]) => `  ${label.padEnd(30)}${figures.map((figure) => figure.padStart(12)).join('')}`,
  );
}

/** Each limit with what was found. */
function verdicts(metrics) {
  const lines = [];
  for (const name of Object.keys(metrics).sort()) {
    const { thresholds, values } = metrics[name];
    for (const [limit, { ok }] of Object.entries(thresholds || {})) {
      if (matters(limit)) lines.push(`  ${ok ? 'holds ' : 'BROKEN'}  ${name} ${limit}   (${found(values, limit)})`);
    }
  }
  return lines;
}

/** The figure that a limit is about. */
function found(values, limit) {
  const figure = values[limit.split(/[<>=!]/)[0].trim()];
  return figure === undefined ? 'no figure' : String(Math.round(figure * 1000) / 1000);
}
