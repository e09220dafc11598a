// A chart of minutes with axes, in SVG. The pointer or the arrow keys choose a minute, whose values are then said in
// words. Without a choice, the words say the newest and the highest value.

import { el, setText, svg } from "./dom.js";
import { minute } from "./format.js";

const HEIGHT = 140; // as in view.css
const LEFT = 56;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
const LABEL_PIXELS = 64; // a label of the time axis with the space beside it
const STEPS = [300, 600, 900, 1800, 3600, 7200, 10800]; // seconds between two labels
const GAP_SECONDS = 90; // two minutes further apart have nothing between them

export class Chart {
  #lines;
  #show;
  #axis;
  #least;
  #limit = null;
  #plot = el("div", { className: "plot", tabIndex: 0 });
  #svg = svg("svg", { "aria-hidden": "true" });
  #reading = el("p", { className: "note reading" });
  #points = []; // {at, values}
  #from = 0;
  #to = 1;
  #top = 1;
  #chosen = null; // the `at` of a minute
  #width = 300;

  /**
   * `lines`: the name of each value; `show(value)` gives a value with its unit, and `axis(value)` a label of the value
   * axis, which is at least `least` high.
   */
  constructor(place, { label, lines, show, axis, least }) {
    this.#lines = lines;
    this.#show = show;
    this.#axis = axis;
    this.#least = least;
    for (const [name, value] of Object.entries({ role: "slider", "aria-readonly": "true", "aria-valuemin": "0" })) {
      this.#plot.setAttribute(name, value);
    }
    this.#plot.setAttribute("aria-label", `${label}, by minute; the arrow keys choose a minute`);
    this.#plot.append(this.#svg);
    place.append(this.#plot, this.#reading);
    this.#listen();
    new ResizeObserver(() => this.#draw()).observe(this.#plot);
    this.#draw();
  }

  /** `points`: {at, values}, oldest first; a value null is a gap. `limit`: {value, text} of a line across, or null. */
  update(points, from, to, limit = null) {
    this.#points = points.filter((point) => point.at >= from && point.at < to);
    this.#from = from;
    this.#to = to;
    this.#limit = limit;
    this.#draw();
  }

  #listen() {
    const plot = this.#plot;
    plot.addEventListener("pointermove", (event) => {
      const share = (event.clientX - plot.getBoundingClientRect().left - LEFT) / (this.#width - LEFT - RIGHT);
      this.#choose(this.#nearest(this.#from + share * (this.#to - this.#from)));
    });
    for (const name of ["pointerleave", "blur"]) plot.addEventListener(name, () => this.#choose(null));
    plot.addEventListener("keydown", (event) => {
      const last = this.#points.length - 1;
      const index = this.#points.findIndex((point) => point.at === this.#chosen);
      const next = {
        ArrowLeft: index < 0 ? last : Math.max(0, index - 1),
        ArrowRight: index < 0 ? last : Math.min(last, index + 1),
        Home: 0,
        End: last,
        Escape: -1,
      }[event.key];
      if (next === undefined || last < 0) return;
      event.preventDefault();
      this.#choose(this.#points[next]?.at ?? null);
    });
  }

  #nearest(at) {
    let best = null;
    for (const point of this.#points) {
      if (best === null || Math.abs(point.at - at) < Math.abs(best - at)) best = point.at;
    }
    return best;
  }

  #choose(at) {
    if (at === this.#chosen) return;
    this.#chosen = at;
    this.#drawCursor();
    this.#say();
  }

  #draw() {
    this.#width = Math.max(150, this.#plot.clientWidth);
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    const highest = Math.max(0, ...this.#points.flatMap((point) => point.values.filter((value) => value != null)));
    this.#top = niceTop(Math.max(highest, this.#least));
    this.cursor = svg("g", { class: "cursor" });
    this.#svg.replaceChildren(...this.#grid(), ...this.#times(), ...this.#limits(), ...this.#paths(), this.cursor);
    this.#drawCursor();
    this.#say();
  }

  #x(at) {
    return LEFT + ((at - this.#from) / (this.#to - this.#from)) * (this.#width - LEFT - RIGHT);
  }

  #y(value) {
    return HEIGHT - BOTTOM - (value / this.#top) * (HEIGHT - BOTTOM - TOP);
  }

  #grid() {
    return [0, 0.5, 1].flatMap((share) => {
      const y = this.#y(share * this.#top).toFixed(1);
      return [
        svg("line", { class: "grid", x1: LEFT, x2: this.#width - RIGHT, y1: y, y2: y }),
        svg("text", { x: LEFT - 6, y, dy: "0.32em", "text-anchor": "end" }, this.#axis(share * this.#top)),
      ];
    });
  }

  #times() {
    const most = Math.max(2, Math.floor((this.#width - LEFT - RIGHT) / LABEL_PIXELS));
    const step = STEPS.find((seconds) => (this.#to - this.#from) / seconds <= most) ?? STEPS.at(-1);
    const made = [];
    for (let at = Math.ceil(this.#from / step) * step; at < this.#to; at += step) {
      const x = this.#x(at);
      if (x > this.#width - RIGHT - LABEL_PIXELS / 4) break; // the label would be cut
      made.push(svg("line", { class: "grid", x1: x.toFixed(1), x2: x.toFixed(1), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
      made.push(svg("text", { x: x.toFixed(1), y: HEIGHT - 4, "text-anchor": "middle" }, minute(at)));
    }
    return made;
  }

  #limits() {
    if (this.#limit === null || this.#limit.value > this.#top) return [];
    const y = this.#y(this.#limit.value);
    const label = svg("text", { x: this.#width - RIGHT, y: y < TOP + 14 ? y + 13 : y - 4, "text-anchor": "end" }, this.#limit.text);
    return [svg("line", { class: "limit", x1: LEFT, x2: this.#width - RIGHT, y1: y.toFixed(1), y2: y.toFixed(1) }), label];
  }

  #paths() {
    return this.#lines.map((_, index) => {
      const parts = [];
      let before = null;
      for (const { at, values } of this.#points) {
        if (values[index] == null) continue;
        const to = `${this.#x(at + 30).toFixed(1)},${this.#y(values[index]).toFixed(1)}`;
        parts.push(before !== null && at - before < GAP_SECONDS ? `L${to}` : `M${to}h0`);
        before = at;
      }
      return svg("path", { class: index ? "line second" : "line", d: parts.join("") });
    });
  }

  #drawCursor() {
    const point = this.#points.find(({ at }) => at === this.#chosen);
    if (!point) {
      this.cursor.replaceChildren();
      return;
    }
    const x = this.#x(point.at + 30).toFixed(1);
    const dots = point.values
      .filter((value) => value != null)
      .map((value) => svg("circle", { cx: x, cy: this.#y(value).toFixed(1), r: 3 }));
    this.cursor.replaceChildren(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }), ...dots);
  }

  #say() {
    const last = Math.max(0, this.#points.length - 1);
    const index = this.#points.findIndex((point) => point.at === this.#chosen);
    const text = index < 0 ? this.#summary() : `${minute(this.#chosen)} UTC: ${this.#words(this.#points[index].values)}`;
    setText(this.#reading, text);
    this.#plot.setAttribute("aria-valuemax", String(last));
    this.#plot.setAttribute("aria-valuenow", String(index < 0 ? last : index));
    this.#plot.setAttribute("aria-valuetext", text);
  }

  #words(values) {
    const known = values.map((value, index) => [this.#lines[index], value]).filter(([, value]) => value != null);
    if (known.length === 0) return "nothing was measured";
    return known.map(([name, value]) => `${name ? `${name} ` : ""}${this.#show(value)}`).join(", ");
  }

  #summary() {
    const known = this.#points.filter((point) => point.values[0] != null);
    if (known.length === 0) return "nothing was measured";
    const highest = known.reduce((best, point) => (point.values[0] > best.values[0] ? point : best));
    return `latest ${this.#words(known.at(-1).values)}; highest ${this.#words([highest.values[0]])} at ${minute(highest.at)} UTC`;
  }
}

/** The next 1, 2, 5, 10, 20 ... at or above the value. */
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((times) => times * power).find((top) => top >= value * 0.999) ?? 10 * power;
}
