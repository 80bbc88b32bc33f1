// What is wrong with the page as it is drawn: panels with an error, with nothing, or with something that cannot be seen.

function cut(element) {
  return element.scrollWidth > element.clientWidth + 1;
}

function scrolled(element) {
  for (let outer = element.parentElement; outer; outer = outer.parentElement) {
    if (['auto', 'scroll'].includes(getComputedStyle(outer).overflowY)) return outer;
  }
  return document.documentElement;
}

// Whether a canvas has a pixel with a colour: axes and grids are grey.
function coloured(canvas) {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let place = 0; place < data.length; place += 4) {
    const [red, green, blue, alpha] = data.subarray(place, place + 4);
    if (alpha > 40 && Math.max(red, green, blue) - Math.min(red, green, blue) > 10) return true;
  }
  return false;
}

function hiddenItems(items) {
  return items.filter((item) => item.getBoundingClientRect().top + 8 > scrolled(item).getBoundingClientRect().bottom);
}

function* ofLines(panel, shown) {
  const canvas = panel.querySelector('canvas');
  if (!canvas || !coloured(canvas)) yield 'no line is drawn';
  const items = [...panel.querySelectorAll('tbody tr, li')];
  const hidden = hiddenItems(items).length;
  if (items.length === 0) yield 'no legend';
  if (items.length - hidden < Math.min(items.length, shown)) yield `the legend shows ${items.length - hidden} of ${items.length}`;
}

function* ofCells(panel) {
  const heads = [...panel.querySelectorAll('[role=columnheader]')];
  if (panel.querySelectorAll('[role=cell]').length === 0) yield 'no cell is drawn';
  const edge = panel.getBoundingClientRect().right;
  const outside = heads.filter((head) => head.getBoundingClientRect().right > edge + 1).map((head) => head.textContent);
  if (outside.length > 0) yield `columns that are not visible: ${outside.join(', ')}`;
}

function* ofPanel(panel) {
  const title = panel.querySelector('h2');
  if (!title || cut(title)) yield 'the title is cut';
  const error = panel.querySelector('[data-error]');
  if (error) yield error.dataset.error;
  const nothing = panel.querySelector('[data-nothing]');
  if (nothing) yield `empty: ${nothing.dataset.nothing}`;
  if (error || nothing) return;
  if (!panel.querySelector('[data-drawn]')) yield 'draws nothing';
  else if (panel.dataset.kind === 'timeseries') yield* ofLines(panel, 8);
  else if (panel.dataset.kind === 'table') yield* ofCells(panel);
  else if (panel.dataset.kind === 'stat' && !/\d|\w/.test(panel.querySelector('[data-drawn]').textContent)) yield 'no number is drawn';
  else if (panel.dataset.kind === 'state-timeline' && !panel.querySelector('[data-bar]')) yield 'no bar is drawn';
}

/** Pairs of a panel's title and what is wrong with it. */
export function faults() {
  return [...document.querySelectorAll('[data-panel]')].flatMap((panel) => [...ofPanel(panel)].map((fault) => [panel.dataset.panel, fault]));
}
