// A tree grid (https://www.w3.org/WAI/ARIA/apg/patterns/treegrid/) that has only the rows on the screen
// as elements, so that two thousand threads cost as much as forty.

import { element, say, set } from "./dom.js";
import { COLUMNS } from "./cells.js";
import { upwards } from "./tree.js";

const ROW = 32; // px, as in page.css
const MARGIN = 6; // rows above and below the screen
const ARRANGE_MS = 150; // after the last move: moving elements costs the most

export class Table {
  /** `on`: sort(column, ascending), toggle(node, open), show(thread). */
  constructor(on) {
    this.on = on;
    this.rows = [];
    this.pool = [];
    this.top = 0;
    this.made = 0;
    this.active = null; // key
    this.context = {};
    this.heads = COLUMNS.map((column) => this.#head(column));
    this.header = element("div", { role: "row", class: "row header", "aria-rowindex": "1" }, ...this.heads);
    this.body = element("div", { role: "rowgroup", class: "rows" });
    this.grid = element(
      "div",
      { role: "treegrid", class: "grid", tabindex: "0", "aria-label": "Threads", "aria-colcount": COLUMNS.length },
      element("div", { role: "rowgroup", class: "headers" }, this.header),
      this.body,
    );
    this.empty = element("p", { class: "empty", hidden: "" });
    this.box = element("div", { class: "table" }, this.grid, this.empty);
    this.box.addEventListener("scroll", () => this.#draw(false), { passive: true });
    new ResizeObserver(() => this.#draw(false)).observe(this.box);
    this.grid.addEventListener("keydown", (event) => this.#key(event));
    this.grid.addEventListener("focus", () => {
      if (!this.#find() && this.rows.length) this.#activate(0);
    });
    this.body.addEventListener("click", (event) => this.#click(event));
  }

  show(rows, context, nothing) {
    this.rows = rows;
    this.context = context;
    set(this.grid, "aria-rowcount", rows.length + 1);
    this.grid.classList.toggle("flat", context.flat);
    set(this.grid, "role", context.flat ? "grid" : "treegrid");
    this.body.style.height = `${rows.length * ROW}px`;
    this.empty.hidden = Boolean(rows.length);
    say(this.empty, nothing);
    COLUMNS.forEach(({ by }, index) => {
      const { column, ascending } = context.sort;
      set(this.heads[index], "aria-sort", by && column === by ? (ascending ? "ascending" : "descending") : null);
    });
    this.#draw();
  }

  #head({ by, head, hint, right }) {
    const cell = element("div", { role: "columnheader", class: right ? "cell right" : "cell", title: hint });
    if (!by) {
      cell.append(head);
      return cell;
    }
    const sort = () => {
      const { column, ascending } = this.context.sort;
      this.on.sort(by, column === by ? !ascending : upwards(by));
    };
    cell.append(element("button", { type: "button", onclick: sort }, head));
    return cell;
  }

  #row() {
    const cells = COLUMNS.map((column) => column.make());
    this.made += 1;
    const row = element("div", { role: "row", id: `row${this.made}` }, ...cells.map(({ cell }) => cell));
    this.body.append(row);
    return { row, cells, index: -1 };
  }

  /** Puts the rows on the screen. Only those that come into it are filled, unless `anew`. */
  #draw(anew = true) {
    const top = Math.max(Math.floor(this.box.scrollTop / ROW) - MARGIN, 0);
    const bottom = Math.min(top + Math.ceil(this.box.clientHeight / ROW) + 2 * MARGIN, this.rows.length);
    const wanted = Math.max(bottom - top, 0);
    while (this.pool.length < wanted) this.pool.push(this.#row());
    while (this.pool.length > wanted) this.pool.pop().row.remove();
    const moved = top - this.top; // a row that stays on the screen keeps its element
    if (Math.abs(moved) < wanted && moved) {
      this.pool.unshift(...this.pool.splice(moved));
      clearTimeout(this.sorting);
      this.sorting = setTimeout(() => this.#arrange(), ARRANGE_MS);
    }
    this.pool.forEach((item, place) => {
      if (anew || item.index !== top + place) this.#fill(item, top + place);
    });
    this.top = top;
    const index = this.#find() ? this.index : -1;
    const onScreen = index >= top && index < bottom;
    set(this.grid, "aria-activedescendant", onScreen ? this.pool[index - top].row.id : null);
  }

  /** Puts the elements in the order of their rows, for screen readers. */
  #arrange() {
    let before = null;
    for (const { row } of this.pool.toReversed()) {
      if (row.nextSibling !== before) this.body.insertBefore(row, before);
      before = row;
    }
  }

  #fill(item, index) {
    const { row, cells } = item;
    const { node, level, open, place, of } = this.rows[index];
    item.index = index;
    set(row, "class", `row ${node.kind}${node.holds ? " holds" : ""}${node.key === this.active ? " active" : ""}${this.context.isShown(node) ? " shown" : ""}`);
    set(row, "aria-level", this.context.flat ? null : level);
    set(row, "aria-setsize", this.context.flat ? null : of);
    set(row, "aria-posinset", this.context.flat ? null : place);
    set(row, "aria-expanded", open === undefined ? null : open);
    set(row, "aria-rowindex", index + 2);
    set(row, "aria-selected", node.key === this.active);
    row.style.transform = `translateY(${index * ROW}px)`;
    for (const { fill } of cells) fill(node, this.context);
  }

  /** Finds the active row again, wherever it is now. */
  #find() {
    if (this.active === null) return undefined;
    if (this.rows[this.index]?.node.key !== this.active)
      this.index = this.rows.findIndex(({ node }) => node.key === this.active);
    return this.rows[this.index];
  }

  #activate(index) {
    this.index = Math.max(Math.min(index, this.rows.length - 1), 0);
    this.active = this.rows[this.index].node.key;
    const [from, to] = [this.index * ROW, (this.index + 2) * ROW]; // a row is hidden by the header
    if (from < this.box.scrollTop) this.box.scrollTop = from;
    else if (to > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = to - this.box.clientHeight;
    this.#draw();
  }

  #key(event) {
    if (event.target !== this.grid || event.altKey || event.ctrlKey || event.metaKey || !this.rows.length) return;
    const row = this.#find();
    const index = row ? this.index : -1;
    const page = Math.max(Math.floor(this.box.clientHeight / ROW) - 2, 1);
    const moves = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) this.#activate(moves[event.key]);
    else if (row && event.key === "ArrowRight" && row.open === false) this.on.toggle(row.node, true);
    else if (row && event.key === "ArrowRight" && row.open) this.#activate(index + 1);
    else if (row && event.key === "ArrowLeft" && row.open) this.on.toggle(row.node, false);
    else if (row && event.key === "ArrowLeft" && row.level > 1) {
      this.#activate(this.rows.findLastIndex(({ level }, other) => other < index && level < row.level));
    } else if (row && (event.key === "Enter" || event.key === " ")) {
      if (row.node.kind === "thread") this.on.show(row.node);
      else if (row.node.kind === "task") this.on.show({ pid: row.node.pid, id: row.node.tid });
      else this.on.toggle(row.node, !row.open);
    } else return;
    event.preventDefault();
  }

  #click(event) {
    const item = this.pool.find(({ row }) => row.contains(event.target));
    if (!item || String(getSelection())) return;
    const { node, open } = this.rows[item.index];
    this.active = node.key;
    this.index = item.index;
    if (node.kind === "task") this.on.show({ pid: node.pid, id: node.tid });
    else if (node.kind === "thread" && !(open !== undefined && event.target.closest(".twisty"))) this.on.show(node);
    else this.on.toggle(node, !open);
  }
}
