// Options of fields, as Grafana's core registers them before it draws a panel: @grafana/data has the processors,
// but no list of them, and no defaults of a panel's own (custom) options.
import {
  FieldConfigOptionsRegistry,
  applyFieldOverrides,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  mappingsOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  thresholdsOverrideProcessor,
  transformDataFrame,
  unitOverrideProcessor,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';

const STANDARD = {
  unit: unitOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  links: dataLinksOverrideProcessor,
  mappings: mappingsOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
};
const PLAIN = ['color', 'decimals', 'filterable', 'max', 'min', 'noValue'];

// What a time series has where the dashboard says nothing.
const LINES = {
  axisBorderShow: false,
  axisCenteredZero: false,
  axisColorMode: 'text',
  axisGridShow: true,
  axisLabel: '',
  axisPlacement: 'auto',
  barAlignment: 0,
  barWidthFactor: 0.6,
  drawStyle: 'line',
  fillOpacity: 0,
  gradientMode: 'none',
  hideFrom: { legend: false, tooltip: false, viz: false },
  insertNulls: false,
  lineInterpolation: 'linear',
  lineWidth: 1,
  pointSize: 5,
  scaleDistribution: { type: 'linear' },
  showPoints: 'auto',
  spanNulls: false,
  stacking: { group: 'A', mode: 'none' },
};
const LINES_AND_MORE = [...Object.keys(LINES), 'axisSoftMax', 'axisSoftMin', 'lineStyle', 'thresholdsStyle', 'transform'];
const CELLS = { align: 'auto', cellOptions: { type: 'auto' }, inspect: false };
const CELLS_AND_MORE = [...Object.keys(CELLS), 'filterable', 'minWidth', 'width'];

function option(id, path, isCustom, process = (value) => value) {
  return { id, path, name: id, isCustom, process, shouldApply: () => true, override: () => null, editor: () => null };
}

const REGISTRY = new FieldConfigOptionsRegistry(() => [
  ...Object.entries(STANDARD).map(([name, process]) => option(name, name, false, process)),
  ...PLAIN.map((name) => option(name, name, false)),
  ...new Set([...LINES_AND_MORE, ...CELLS_AND_MORE]),
].map((given) => (typeof given === 'string' ? option(`custom.${given}`, given, true) : given)));

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer, standardTransformers.orderFieldsTransformer,
    standardTransformers.filterFieldsByNameTransformer, standardTransformers.renameFieldsTransformer, standardTransformers.filterFieldsTransformer]
    .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation })));

// JSON has no -Infinity, from which the first threshold counts: null stands for it.
function withInfinity(part) {
  if (Array.isArray(part)) return part.map(withInfinity);
  if (part === null || typeof part !== 'object') return part;
  const made = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, withInfinity(value)]));
  return 'steps' in made ? { ...made, steps: made.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) } : made;
}

/** The options of a panel's fields with those that the dashboard leaves out. */
export function fieldConfig(panel) {
  const given = withInfinity(panel.fieldConfig);
  const defaults = { timeseries: LINES, table: CELLS }[panel.type] ?? {};
  return { ...given, defaults: { ...given.defaults, custom: { ...defaults, ...given.defaults.custom } } };
}

/** The panel's answers, transformed, and with its options in each field. */
export async function prepared(panel, frames, theme) {
  const transformed = panel.transformations ? await firstValueFrom(transformDataFrame(panel.transformations, frames)) : frames;
  return applyFieldOverrides({
    data: transformed,
    fieldConfig: fieldConfig(panel),
    fieldConfigRegistry: REGISTRY,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
}
