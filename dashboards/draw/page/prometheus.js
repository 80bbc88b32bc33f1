// Asks Prometheus what a panel asks, and makes data frames of the answers, as Grafana's data source for it does.
import { FieldType, rangeUtil } from '@grafana/data';

/** The seconds between two points of a graph that is so wide, and over which its rates are taken. */
function steps(plan, range, width) {
  const { intervalMs } = rangeUtil.calculateInterval(range, Math.floor(width), `${plan.scrape}s`);
  const step = intervalMs / 1000;
  return { step, rate: Math.max(step + plan.scrape, 4 * plan.scrape) };
}

function filled(text, values) {
  return text.replace(/\$(__\w+)/g, (all, name) => values[name] ?? all);
}

async function answer(plan, path, parameters) {
  const response = await fetch(plan.prometheus + path, { method: 'POST', body: new URLSearchParams(parameters) });
  const { data, error } = await response.json();
  if (error) throw new Error(error);
  return data.resultType === 'scalar' ? [{ metric: {}, value: data.result }] : data.result;
}

function number(text) {
  return text === undefined || text === 'NaN' ? null : Number(text);
}

function rows(query, several, found) {
  const labels = [...new Set(found.flatMap((series) => Object.keys(series.metric)))].sort();
  const column = (name, type, value) => ({ name, type, config: {}, values: found.map(value) });
  return {
    refId: query.refId,
    length: found.length,
    meta: { type: 'table' },
    fields: [
      column('Time', FieldType.time, (series) => series.value[0] * 1000),
      ...labels.map((label) => column(label, FieldType.string, (series) => series.metric[label] ?? null)),
      column(several ? `Value #${query.refId}` : 'Value', FieldType.number, (series) => number(series.value[1])),
    ],
  };
}

function line(query, times, step, series) {
  const values = new Map(series.values ?? [series.value]);
  const name = query.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (all, label) => series.metric[label] ?? '') || 'Value';
  return {
    refId: query.refId,
    name,
    length: times.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: times.map((time) => time * 1000) },
      { name: 'Value', type: FieldType.number, labels: series.metric, config: { displayNameFromDS: name }, values: times.map((time) => number(values.get(time))) },
    ],
  };
}

/** The frames that answer a panel's queries; throws what Prometheus says against one. */
export async function ask(plan, panel, range, width) {
  const { step, rate } = steps(plan, range, width);
  const [from, to] = [range.from, range.to].map((moment) => Math.floor(moment.valueOf() / 1000 / step) * step);
  const times = Array.from({ length: Math.round((to - from) / step) + 1 }, (_, place) => from + place * step);
  const values = { __rate_interval: `${rate}s`, __interval: `${step}s`, __range: `${to - from}s` };
  const frames = [];
  for (const query of panel.targets) {
    const text = filled(query.expr, values);
    if (query.instant) {
      const found = await answer(plan, '/api/v1/query', { query: text, time: to });
      if (query.format === 'table') frames.push(rows(query, panel.targets.length > 1, found));
      else frames.push(...found.map((series) => line(query, [series.value[0]], step, series)));
    } else {
      const found = await answer(plan, '/api/v1/query_range', { query: text, start: from, end: to, step });
      frames.push(...found.map((series) => line(query, times, step, series)));
    }
  }
  return frames;
}
