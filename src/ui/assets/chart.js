// Charts over time: uPlot draws, and everything a drawing says is there as text and as a table too.

import { clock, h, say } from "./dom.js";

/** The number of series colours; the last one is for what was added up. */
export const COLOURS = 7;

let probe;
/** What a CSS colour comes to in the theme of the moment; a canvas knows no variables. */
function colour(value, alpha = 1) {
  probe ??= document.body.appendChild(h("span", { hidden: true }));
  probe.style.color = value;
  const rgb = getComputedStyle(probe).color;
  return alpha === 1 ? rgb : rgb.replace(/^rgba?\(([^,)]+),([^,)]+),([^,)]+).*$/, `rgba($1,$2,$3,${alpha})`);
}

/** One chart. `set` takes times and series; the host grows a figure. */
export class Chart {
  /** `format` writes one value; `stacked` adds the series up; `about` makes the sentence beside the title. */
  constructor(host, { title, format, stacked = false, about }) {
    Object.assign(this, { format, stacked, about, shape: "", plot: null, data: null });
    const id = `c-${title.toLowerCase().replace(/\W+/g, "-")}`;
    this.title = h("h3", { id }, title);
    this.sum = h("span.sum");
    this.none = h("p.none", null, "Nothing in this time");
    this.box = h("div.plot", { "aria-hidden": "true" }, this.none);
    this.rows = h("div.scroll", { tabindex: "0", role: "group", "aria-labelledby": id });
    this.details = h("details", { toggle: () => this.fill() }, h("summary", null, "As a table"), this.rows);
    host.append(h("figure.chart", { "aria-labelledby": id }, h("figcaption", null, this.title, this.sum), this.box, this.details));
    this.title.style.margin = "0";
    this.tip = h("div.tip", { hidden: true });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.box);
  }

  size() {
    return { width: Math.max(120, this.box.clientWidth), height: this.box.clientHeight };
  }

  /** `times` in Unix seconds; series are {name, values, colour, dash}. */
  set({ times, series, step, title }) {
    if (title) say(this.title, title);
    this.data = { times, series, step };
    say(this.sum, this.about(series));
    this.none.hidden = series.length > 0;
    const shape = JSON.stringify(series.map((one) => [one.name, one.colour, one.dash]));
    if (shape !== this.shape || !this.plot) {
      this.shape = shape;
      this.draw();
    } else {
      this.plot.setData(this.columns());
    }
    if (this.details.open) this.fill();
  }

  /** Draws anew, for another theme. */
  draw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data?.series.length || typeof uPlot !== "function") return;
    const dim = colour("var(--dim)");
    const axis = { stroke: dim, font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: colour("var(--line)"), width: 1 } };
    const lines = this.data.series.map((one) => ({
      label: one.name,
      stroke: colour(`var(--s${one.colour})`),
      width: one.dash ? 1.25 : 1.75,
      dash: one.dash ? [3, 3] : undefined,
      fill: this.stacked ? colour(`var(--s${one.colour})`, 0.22) : undefined,
      spanGaps: false,
      points: { show: !this.stacked && !one.dash, size: 4, filter: lonely },
    }));
    this.plot = new uPlot({
      ...this.size(),
      padding: [8, 6, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true, range: (_, low, high) => [Math.min(low, high - 300), high] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 22, gap: 4, values: (_, all) => all.map((at) => clock(at * 1000).slice(0, 5)) },
        { ...axis, size: 54, gap: 6, space: 34, values: (_, all) => all.map((value) => this.format(value, true)) },
      ],
      series: [{}, ...lines],
      bands: this.stacked ? lines.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : undefined,
      hooks: { setCursor: [(plot) => this.point(plot)] },
    }, this.columns(), this.box);
    this.plot.over.append(this.tip);
  }

  columns() {
    const { times, series } = this.data;
    if (!this.stacked) return [times, ...series.map((one) => one.values)];
    const sums = new Array(times.length).fill(0);
    return [times, ...series.map((one) => one.values.map((value, at) => (sums[at] += value ?? 0)))];
  }

  point(plot) {
    const at = plot.cursor.idx;
    this.tip.hidden = at == null;
    if (at == null) return;
    const { times, series } = this.data;
    const rows = series.map((one) => {
      const swatch = h("span.swatch");
      swatch.style.background = `var(--s${one.colour})`;
      return h("div", null, swatch, h("span", null, one.name || "no pipeline"), h("span", null, one.values[at] == null ? "–" : this.format(one.values[at])));
    });
    this.tip.replaceChildren(h("b", null, clock(times[at] * 1000)), ...rows);
    const right = plot.cursor.left > plot.over.clientWidth / 2;
    this.tip.style.left = right ? "auto" : `${plot.cursor.left + 12}px`;
    this.tip.style.right = right ? `${plot.over.clientWidth - plot.cursor.left + 12}px` : "auto";
  }

  /** The table: the newest steps that have something in them. */
  fill() {
    if (!this.details.open || !this.data) return;
    const { times, series } = this.data;
    const steps = times.map((_, at) => at).filter((at) => series.some((one) => one.values[at])).slice(-60).reverse();
    const head = h("tr", null, h("th", { scope: "col" }, "From"), series.map((one) => h("th.n", { scope: "col" }, one.name || "no pipeline")));
    const body = steps.map((at) => h("tr", null, h("th", { scope: "row" }, clock(times[at] * 1000)),
      series.map((one) => h("td.n", null, one.values[at] == null ? "–" : this.format(one.values[at])))));
    this.rows.replaceChildren(steps.length ? h("table", { "aria-label": this.title.textContent }, h("thead", null, head), h("tbody", null, body)) : h("p.nothing", null, "Nothing in this time."));
  }
}

/** Points that no line reaches would not be seen. */
function lonely(plot, index) {
  const values = plot.data[index];
  const found = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}
