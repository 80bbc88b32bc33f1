// A state timeline. Grafana's own is not among its libraries; this one is ours, and only like it.
const LEGEND = 30;
const AXIS = 20;
const NAME = { position: 'absolute', left: 0, textAlign: 'right', whiteSpace: 'nowrap', overflow: 'hidden', fontSize: 12 };

function stretches(times, values, until) {
  const found = [];
  values.forEach((value, place) => {
    const last = found.at(-1);
    const end = times[place + 1] ?? until;
    if (value === null) return;
    if (last && last.value === value && last.end === times[place]) last.end = end;
    else found.push({ value, start: times[place], end });
  });
  return found;
}

function clock(time) {
  return new Date(time).toISOString().slice(11, 19);
}

export function Timeline({ frames, width, height, range, theme }) {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const left = 8 + Math.min(0.2 * width, Math.max(...frames.map((frame) => 7 * frame.name.length)));
  const row = (height - LEGEND - AXIS) / frames.length;
  const x = (time) => left + ((width - left) * (time - from)) / (to - from);
  const seen = new Map();
  const bars = frames.flatMap((frame, place) => {
    const [time, value] = frame.fields;
    return stretches(time.values, value.values, to).map((stretch) => {
      const { text, color } = value.display(stretch.value);
      seen.set(text, color);
      const box = { left: x(stretch.start), width: x(stretch.end) - x(stretch.start), top: (place + 0.075) * row, height: 0.85 * row };
      return <div key={`${place} ${stretch.start}`} data-bar title={text} style={{ position: 'absolute', background: color, opacity: 0.85, ...box }} />;
    });
  });
  const ticks = Array.from({ length: 6 }, (_, place) => from + ((place + 0.5) * (to - from)) / 6);
  return (
    <div style={{ position: 'relative', width, height, color: theme.colors.text.primary }}>
      {frames.map((frame, place) => <div key={frame.name} style={{ ...NAME, width: left - 8, top: (place + 0.5) * row - 9 }}>{frame.name}</div>)}
      {bars}
      {ticks.map((time) => <div key={time} style={{ ...NAME, left: x(time) - 26, top: height - LEGEND - AXIS, color: theme.colors.text.secondary }}>{clock(time)}</div>)}
      <div style={{ position: 'absolute', left, top: height - LEGEND + 6, fontSize: 12 }}>
        {[...seen].map(([text, color]) => (
          <span key={text} style={{ marginRight: 14 }}>
            <span style={{ display: 'inline-block', width: 14, height: 4, marginRight: 5, verticalAlign: 'middle', background: color }} />
            {text}
          </span>
        ))}
      </div>
    </div>
  );
}
