// A line of what was measured, at most of the last three minutes, in SVG, so that it follows the theme's colours and scales with the page.

import { svg } from "./dom.js";

const SPAN_MS = 180_000;
const LEAST_SPAN_MS = 30_000;
const WIDTH = 180;
const HEIGHT = 36;

export class Sparkline {
  #svg;
  #line = svg("path", { class: "line" });
  #area = svg("path", { class: "area" });
  #points = []; // [time, value or null]

  constructor(element, label) {
    this.#svg = element;
    element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    element.setAttribute("preserveAspectRatio", "none");
    element.setAttribute("role", "img");
    this.label = label;
    element.append(this.#area, this.#line);
    this.#describe("nothing measured yet");
  }

  /** `value` null is a gap. */
  push(now, value, show) {
    this.#points.push([now, value]);
    while (this.#points[0][0] < now - SPAN_MS) this.#points.shift();
    const known = this.#points.filter(([, at]) => at != null).map(([, at]) => at);
    const peak = Math.max(0, ...known);
    const span = Math.max(LEAST_SPAN_MS, now - this.#points[0][0]);
    const x = (time) => WIDTH - ((now - time) / span) * WIDTH;
    const y = (at) => HEIGHT - 1 - (peak ? at / peak : 0) * (HEIGHT - 3);
    const runs = this.#runs().map((run) => run.map(([time, at]) => `${x(time).toFixed(1)},${y(at).toFixed(1)}`));
    this.#line.setAttribute("d", runs.map((run) => `M${run.join("L")}`).join(""));
    this.#area.setAttribute("d", runs.map((run) => area(run)).join(""));
    this.#describe(known.length ? `now ${show(known.at(-1))}, peak ${show(peak)}` : "nothing measured");
    return peak;
  }

  #runs() {
    const runs = [[]];
    for (const point of this.#points) {
      if (point[1] == null) runs.push([]);
      else runs.at(-1).push(point);
    }
    return runs.filter((run) => run.length > 0);
  }

  #describe(text) {
    this.#svg.setAttribute("aria-label", `${this.label}: ${text}`);
  }
}

function area(run) {
  const [first, last] = [run[0], run.at(-1)].map((point) => point.split(",")[0]);
  return `M${first},${HEIGHT}L${run.join("L")}L${last},${HEIGHT}Z`;
}
