// Draws one dashboard. window.plan says which, from which Prometheus, and in which theme (look.py puts it there);
// window.waiting counts the panels that have no answer yet, window.faults() says what is wrong with what is drawn.
import { createRoot } from 'react-dom/client';
import { ThemeContext, createTheme, dateTime } from '@grafana/data';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { faults } from './faults.js';
import { Panel } from './panel.jsx';

const { plan } = window;
const theme = createTheme({ colors: { mode: plan.theme } });
const [from, to] = [plan.from, plan.to].map((time) => dateTime(time));
const range = { from, to, raw: { from, to } };

// Grafana's grid
const MARGIN = 16;
const HEAD = 96;
const CELL = 30;
const GAP = 8;
const column = (window.innerWidth - 2 * MARGIN + GAP) / 24;

function placed({ x, y, w, h }) {
  return { left: MARGIN + x * column, top: HEAD + y * (CELL + GAP), width: w * column - GAP, height: h * (CELL + GAP) - GAP };
}

function Row({ row, box }) {
  const { length } = row.panels;
  return (
    <div style={{ position: 'absolute', ...box, fontSize: 16, fontWeight: 500, paddingTop: 4 }}>
      {row.collapsed ? '›' : '⌄'} {row.title}
      {row.collapsed && <span style={{ color: theme.colors.text.secondary, fontSize: 12, fontWeight: 400 }}> ({length} panels)</span>}
    </div>
  );
}

function Variable({ label, value }) {
  const cell = { padding: '6px 8px', border: `1px solid ${theme.colors.border.weak}` };
  return (
    <span style={{ marginRight: 10, fontSize: 12 }}>
      <span style={{ ...cell, background: theme.colors.background.secondary }}>{label}</span>
      <span style={{ ...cell, background: theme.colors.background.primary }}>{value}</span>
    </span>
  );
}

function Dashboard({ dashboard }) {
  const boxes = dashboard.panels.map((panel) => ({ panel, box: placed(panel.gridPos) }));
  const height = Math.max(...boxes.map(({ box }) => box.top + box.height)) + MARGIN;
  const page = { position: 'relative', height, background: theme.colors.background.canvas, color: theme.colors.text.primary };
  return (
    <div style={{ ...page, fontFamily: 'Inter, sans-serif', fontSize: 14 }}>
      <div style={{ padding: `14px ${MARGIN}px`, fontSize: 16 }}>{dashboard.title}</div>
      <div style={{ padding: `4px ${MARGIN}px` }}>{Object.entries(plan.variables).map(([label, value]) => <Variable key={label} {...{ label, value }} />)}</div>
      {boxes.map(({ panel, box }) =>
        panel.type === 'row'
          ? <Row key={panel.id} row={panel} box={box} />
          : <Panel key={panel.id} done={() => { window.waiting -= 1; }} {...{ plan, panel, box, range, theme }} />)}
    </div>
  );
}

window.faults = faults;
window.waiting = plan.dashboard.panels.filter((panel) => panel.type !== 'row').length;
createRoot(document.getElementById('app')).render(
  <ThemeContext.Provider value={theme}>
    <PortalContainer />
    <GlobalStyles />
    <Dashboard dashboard={plan.dashboard} />
  </ThemeContext.Provider>,
);
