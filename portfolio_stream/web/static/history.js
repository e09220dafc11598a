// The last hours: four charts and a table of what the workers have kept of each minute.

import { Chart } from "./chart.js";
import { byId, column, setText, updateRows } from "./dom.js";
import { count, duration, latency, minute, plural, rate } from "./format.js";

const LEAST_SECONDS = 600; // a group that began a minute ago is not drawn over the whole width
const ROWS = 180;
const LEAST_OF_A_MINUTE = 5; // seconds: a minute that has just begun has no rate yet

const perSecond = (one) => (one.seconds >= LEAST_OF_A_MINUTE ? one.events / one.seconds : null);
const waited = (seconds) => (seconds == null || seconds < 120 ? latency(seconds) : duration(seconds));

const MINUTES = [
  column((one) => minute(one.at), { isHeader: true }),
  column((one) => rate(perSecond(one)), { isNumber: true }),
  column((one) => latency(one.p50), { isNumber: true }),
  column((one) => latency(one.p99), { isNumber: true }),
  column((one) => count(one.lag), { isNumber: true }),
  column((one) => waited(one.lag_seconds), { isNumber: true }),
  column((one) => count(one.rejected), { isNumber: true }),
  column((one) => count(one.drops), { isNumber: true }),
];

export class Hours {
  #charts = {
    events: chart("chart-events", { label: "Events a second", show: (value) => `${rate(value)}/s`, least: 10 }),
    latency: chart("chart-latency", { label: "Latency", lines: ["p99", "p50"], show: latency, least: 0.01 }),
    lag: chart("chart-lag", { label: "Lag", show: (value) => plural(value, "event"), axis: count, least: 10 }),
    seconds: chart("chart-lag-seconds", { label: "Lag in seconds", show: waited, least: 1 }),
  };
  #newest = { workers: [], absent: [], minutes: [] };
  #limits = null;

  constructor() {
    byId("range").addEventListener("change", () => this.show(this.#newest));
    byId("minutes-details").addEventListener("toggle", () => this.#showRows());
  }

  /** The lines of the objectives come with another event. */
  setLimits(limits) {
    const isNew = JSON.stringify(limits) !== JSON.stringify(this.#limits);
    this.#limits = limits;
    if (isNew) this.show(this.#newest);
  }

  show(history) {
    this.#newest = history;
    const { minutes } = history;
    const to = (minutes.at(-1)?.at ?? Math.floor(Date.now() / 60_000) * 60) + 60;
    const first = Math.min(minutes[0]?.at ?? to, to - LEAST_SECONDS);
    const from = Math.max(first, to - Number(byId("range").value));
    const { events, latency: late, lag, seconds } = this.#charts;
    const points = (of) => minutes.map((one) => ({ at: one.at, values: of(one) }));
    const limits = this.#limits;
    events.update(points((one) => [perSecond(one)]), from, to);
    late.update(points((one) => [one.p99, one.p50]), from, to,
      limits && { value: limits.latency_seconds, text: `objective ${latency(limits.latency_seconds)}` });
    lag.update(points((one) => [one.lag]), from, to,
      limits && { value: limits.lag_records, text: `objective ${count(limits.lag_records)}` });
    seconds.update(points((one) => [one.lag_seconds]), from, to);
    setText(byId("hours-note"), covered(history));
    this.#showRows();
  }

  #showRows() {
    if (!byId("minutes-details").open) return;
    updateRows(byId("minutes"), this.#newest.minutes.slice(-ROWS).toReversed(), {
      key: (one) => String(one.at),
      columns: MINUTES,
      empty: "Nothing is measured yet.",
    });
  }
}

function chart(id, { lines = [""], ...options }) {
  const { show, axis = (value) => (value ? show(value) : "0") } = options;
  return new Chart(byId(id), { lines, ...options, axis });
}

/** Whose minutes they are: those of a worker that died are gone. */
function covered({ workers, absent, minutes }) {
  if (!workers.length) return "gathering the workers' minutes…";
  const missing = absent.length ? `; no answer from ${absent.map((one) => one.worker).join(", ")}` : "";
  return `${plural(minutes.length, "minute")} of ${workers.join(", ")}${missing}`;
}
