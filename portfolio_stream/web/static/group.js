// The group: figures, workers, partitions.

import { byId, column, el, setState, setText, updateRows } from "./dom.js";
import { count, duration, latency, plural, ranges, rate, UNKNOWN } from "./format.js";
import { Sparkline } from "./sparkline.js";

const VERDICTS = {
  holds: "Holds",
  violated: "Violated",
  unverifiable: "Cannot be verified",
  starting: "Audit starts",
  "not audited": "Not audited",
};

const WORKERS = [
  {
    isHeader: true,
    update(cell, worker) {
      const version = worker.version ? `, version ${worker.version}` : "";
      const link = withNote(cell, "a", worker.worker, `${worker.address}${version}`);
      const url = worker.state === "gone" ? null : workerUrl(worker);
      if (url) link.href = url;
      else link.removeAttribute("href");
    },
  },
  { update: (cell, worker) => setState(withNote(cell, "span", worker.state, worker.detail), worker.state) },
  column(partitionsOf),
  column((worker) => rate(worker.events_per_second), { isNumber: true }),
  column((worker) => rate(worker.transactions_per_second), { isNumber: true }),
  column((worker) => count(worker.drops), { isNumber: true }),
  column(up, { className: "whole" }),
];

const PARTITIONS = [
  column((row) => String(row.partition), { isHeader: true, isNumber: true }),
  column((row) => row.owner ?? "none"),
  { update: updatePartitionState },
  column((row) => ({ text: count(row.lag), state: row.lag > 0 && row.state !== "running" ? "stuck" : "fine" }), {
    isNumber: true,
  }),
  column((row) => count(row.committed), { className: "number minor" }),
];

export class Group {
  #sparks = Object.fromEntries(
    [
      ["events", "Events a second"],
      ["commits", "Transactions a second"],
      ["p99", "Latency, 99th percentile"],
      ["lag", "Total lag in records"],
    ].map(([id, label]) => [id, new Sparkline(byId(`${id}-spark`), label)]),
  );

  /** Charts go on while the page is paused, or they would have a gap. */
  record(state) {
    const { totals } = state;
    const now = Date.now();
    this.peaks = {
      events: this.#sparks.events.push(now, totals.events_per_second, (value) => `${rate(value)} events a second`),
      commits: this.#sparks.commits.push(now, totals.transactions_per_second, rate),
      p99: this.#sparks.p99.push(now, totals.p99, latency),
      lag: this.#sparks.lag.push(now, totals.lag, (value) => plural(value, "record")),
    };
  }

  show(state) {
    setText(byId("served-by"), state.served_by);
    byId("sign-out").hidden = !state.asks_for_token;
    this.#showProblems(state.problems);
    this.#showFigures(state.totals);
    showAudit(state.audit);
    updateRows(byId("workers"), state.workers, {
      key: (worker) => `${worker.worker}@${worker.address}`,
      columns: WORKERS,
      empty: "No worker has answered yet.",
    });
    updateRows(byId("partitions"), state.partitions, {
      key: (row) => `p${row.partition}`,
      columns: PARTITIONS,
      empty: "No partition is known yet.",
    });
  }

  #showProblems(problems) {
    const list = byId("problems");
    list.hidden = problems.length === 0;
    if (problems.join() !== [...list.children].map((item) => item.textContent).join()) {
      list.replaceChildren(...problems.map((text) => el("li", {}, text)));
    }
  }

  #showFigures(totals) {
    figure("events", rate(totals.events_per_second), "events/s");
    figure("commits", rate(totals.transactions_per_second), "/s");
    figure("p99", latency(totals.p99));
    figure("lag", count(totals.lag), totals.lag === 1 ? "record" : "records");
    const measured = totals.events_per_second != null;
    const rejected = totals.rejected_per_second ? `, ${rate(totals.rejected_per_second)} rejected/s` : "";
    setText(byId("events-note"), measured ? `peak ${rate(this.peaks.events)}${rejected}` : "measuring…");
    setText(byId("commits-note"), measured ? `peak ${rate(this.peaks.commits)}` : "measuring…");
    setText(byId("p99-note"), latencies(totals));
    setText(byId("lag-note"), totals.lag == null ? "unknown" : `peak ${count(this.peaks.lag)}`);
    figure("drops", count(totals.drops), "of uncommitted work");
    setState(byId("drops"), totals.drops > 0 ? "seen" : "fine");
    setText(byId("drops-note"), `by the workers that run; ${plural(totals.restarts, "restart")} seen from here`);
  }
}

/** A number with its unit in smaller letters. */
function figure(id, text, unit = "") {
  const place = byId(id);
  if (!place.firstElementChild) place.replaceChildren(el("span"), el("span", { className: "unit" }));
  setText(place.firstElementChild, text);
  setText(place.lastElementChild, unit && text !== UNKNOWN ? ` ${unit}` : "");
}

function latencies(totals) {
  if (totals.p99 == null) return "no event was committed in the last seconds";
  return `p50 ${latency(totals.p50)}, p95 ${latency(totals.p95)}`;
}

function showAudit(audit) {
  const verdict = byId("verdict");
  setText(verdict, VERDICTS[audit.verdict] ?? audit.verdict);
  setState(verdict, audit.verdict.replace(" ", "-"));
  setText(byId("verdict-note"), auditNote(audit));
  const list = byId("anomalies");
  list.hidden = audit.anomalies.length === 0;
  const lines = audit.anomalies.map(({ kind, partition, offset, detail }) =>
    `${kind}${partition == null ? "" : ` in partition ${partition}`}${offset == null ? "" : ` at ${offset}`}: ${detail}`);
  if (lines.join() !== [...list.children].map((item) => item.textContent).join()) {
    list.replaceChildren(...lines.map((line) => el("li", {}, line)));
  }
}

function auditNote(audit) {
  if (audit.verdict === "not audited") return audit.detail;
  const age = audit.updated ? Math.max(0, (Date.now() - Date.parse(audit.updated)) / 1000) : null;
  const old = age > 10 ? `, ${duration(age)} ago` : "";
  return `${plural(audit.records, "record")} checked, ${count(audit.lag)} behind${old}`;
}

/** A cell with one thing and a smaller note under it; returns the thing. */
function withNote(cell, tag, text, note) {
  if (!cell.firstElementChild) cell.append(el(tag), el("span", { className: "under" }));
  setText(cell.firstElementChild, text);
  setText(cell.lastElementChild, note);
  return cell.firstElementChild;
}

/** Addresses come from the group's members: only what is a plain host:port becomes a link. */
export function workerUrl(worker) {
  const url = URL.parse?.(`http://${worker.address}/`);
  return url && url.host && !url.username && `http://${worker.address}/`.startsWith(`${url.protocol}//${url.host}`)
    ? url.href
    : null;
}

function partitionsOf(worker) {
  const byState = Object.groupBy(Object.entries(worker.partitions), ([, state]) => state);
  const parts = Object.entries(byState).map(([state, entries]) => {
    const numbers = ranges(entries.map(([partition]) => Number(partition)).sort((a, b) => a - b));
    return state === "running" ? numbers : `${numbers} ${state}`;
  });
  if (parts.length) return parts.join("; ");
  return worker.state === "ready" ? "stands by" : UNKNOWN;
}

function up(worker) {
  const restarts = worker.restarts ? `, ${plural(worker.restarts, "restart")}` : "";
  if (worker.uptime_seconds != null) return duration(worker.uptime_seconds) + restarts;
  return worker.seen_seconds_ago == null ? "never seen" : `seen ${duration(worker.seen_seconds_ago)} ago`;
}

function updatePartitionState(cell, row) {
  setText(cell, row.detail ? `${row.state}: ${row.detail}` : row.state);
  setState(cell, row.state);
}
