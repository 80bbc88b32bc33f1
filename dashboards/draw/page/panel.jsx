// One panel: its frame, what it asks, and what it draws of the answers.
import { Component, useEffect, useState } from 'react';
import { getFieldDisplayValues } from '@grafana/data';
import { BigValue, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { fieldConfig, prepared } from './fields.js';
import { ask } from './prometheus.js';
import { Timeline } from './timeline.jsx';

const same = (text) => text;

function Words({ text, width, height, theme, about }) {
  const middle = { display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center' };
  return <div {...{ [about]: text }} style={{ ...middle, width, height, color: theme.colors.text.secondary, fontSize: 16 }}>{text}</div>;
}

function Stat({ panel, frames, width, height, theme }) {
  const { reduceOptions, colorMode, graphMode, justifyMode, textMode } = panel.options;
  const shown = { fieldConfig: fieldConfig(panel), reduceOptions, replaceVariables: same, theme, data: frames, sparkline: false, timeZone: 'utc' };
  const values = getFieldDisplayValues(shown);
  const draw = (given) => <BigValue {...given} value={given.value.display} count={values.length} theme={theme} {...{ colorMode, graphMode, justifyMode, textMode }} />;
  return <VizRepeater source={values} getValues={() => values} renderValue={draw} width={width} height={height} orientation="auto" itemSpacing={3} minVizHeight={75} />;
}

function Lines({ panel, frames, width, height, range }) {
  const { legend } = panel.options;
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" legend={legend} options={panel.options} replaceVariables={same} {...{ width, height }}>
      {() => null}
    </TimeSeries>
  );
}

function Cells({ panel, frames, width, height, range }) {
  const { cellHeight, sortBy } = panel.options;
  return <Table data={frames[0]} showTypeIcons={false} cellHeight={cellHeight} initialSortBy={sortBy} resizable columnMinWidth={150} timeRange={range} {...{ width, height }} />;
}

const KINDS = { stat: Stat, timeseries: Lines, table: Cells, 'state-timeline': Timeline };

function Content({ panel, state, ...place }) {
  if (state.error) return <Words about="data-error" text={state.error} {...place} />;
  const empty = !state.frames.some((frame) => frame.length > 0);
  const { noValue } = panel.fieldConfig.defaults;
  if (empty && panel.type !== 'stat') return <Words about="data-nothing" text={noValue} {...place} />;
  const Kind = KINDS[panel.type];
  return <div {...(empty ? { 'data-nothing': noValue } : { 'data-drawn': panel.type })}><Kind panel={panel} frames={state.frames} {...place} /></div>;
}

class Caught extends Component {
  state = {};

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    return this.state.error ? <pre data-error={String(this.state.error)}>{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

/** A panel at its place; ``done`` is called when it has what it draws. */
export function Panel({ plan, panel, box, range, theme, done }) {
  const [state, set] = useState(null);
  useEffect(() => {
    ask(plan, panel, range, box.width - 20)
      .then((frames) => prepared(panel, frames, theme))
      .then((frames) => set({ frames }), (error) => set({ error: String(error) }))
      .finally(done);
  }, []);
  return (
    <div data-panel={panel.title} data-kind={panel.type} style={{ position: 'absolute', ...box }}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}>
        {(width, height) => state && <Caught><Content {...{ panel, state, width, height, range, theme }} /></Caught>}
      </PanelChrome>
    </div>
  );
}
