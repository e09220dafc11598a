// What the watcher sees (alerts, objectives, advice), the job and its checkpoints.

import { byId, column, el, setState, setText, updateRows } from "./dom.js";
import { count, duration, latency, plural, size, UNKNOWN } from "./format.js";

const OLD_SECONDS = 10; // the watcher looks every second or two
const LOW_BUDGET = 0.25;
const LONGEST = 40; // characters of a figure: any process may answer in the watcher's place

const PRIORITIES = { P0: "P0 critical", P1: "P1 urgent", P2: "P2 warning", P3: "P3 information" };
const URGENT = new Set(["P0", "P1"]);
const STATES = { firing: "fires", pending: "pending" };
const CHECKPOINT_STATES = { COMPLETED: "good", FAILED: "spent", IN_PROGRESS: "pending" };

const ALERTS = [
  column((alert) => ({ text: PRIORITIES[alert.priority] ?? alert.priority, state: URGENT.has(alert.priority) ? "firing" : "pending" }), {
    isHeader: true,
  }),
  { update: updateAlert },
  { update: updateAlertState },
];

const OBJECTIVES = [
  {
    isHeader: true,
    update(cell, one) {
      if (!cell.firstElementChild) cell.append(el("span"), el("span", { className: "under" }));
      setText(cell.firstElementChild, one.text);
      setText(cell.lastElementChild, one.total > 0 ? short(`${count(one.bad)} of ${count(one.total)} ${one.unit} bad`) : `no ${one.unit} yet`);
    },
  },
  column((one) => percent(one.objective), { className: "number minor" }),
  column((one) => percent(one.figure), { isNumber: true }),
  column((one) => budget(one.budget_left), { isNumber: true }),
  column((one) => burn(one.burn_rate), { isNumber: true }),
];

const CHECKPOINTS = [
  column((one) => String(one.id), { isHeader: true }),
  column((one) => one.triggered_at.replace("T", " ").replace(/(\.\d+)?Z$/, ""), { className: "whole" }),
  column((one) => ({ text: checkpointState(one), state: CHECKPOINT_STATES[one.status] })),
  column((one) => latency(one.duration_seconds), { isNumber: true }),
  column((one) => count(one.records), { isNumber: true }),
  column((one) => size(one.state_bytes), { className: "number minor" }),
];

export function showWatch(watch) {
  const isWatched = watch.detail === "";
  const unknown = sentence(watch.detail);
  setText(byId("watched-note"), isWatched ? summary(watch) : "");
  updateRows(byId("alerts"), watch.alerts, {
    key: (alert) => alert.name,
    columns: ALERTS,
    empty: isWatched ? "No alert fires or is pending." : unknown,
  });
  setText(byId("objectives-note"), isWatched ? `counted for ${short(duration(age(watch.since)))}` : "");
  updateRows(byId("objectives"), watch.objectives, {
    key: (one) => one.name,
    columns: OBJECTIVES,
    empty: isWatched ? "The watcher has counted nothing yet." : unknown,
  });
  showAdvice(watch.advice, isWatched ? "Nothing is to be advised." : unknown);
  showJob(watch.job);
  updateRows(byId("checkpoints"), watch.checkpoints ?? [], {
    key: (one) => String(one.id),
    columns: CHECKPOINTS,
    empty: watch.checkpoints === null ? "This worker has not read them yet." : "There was none yet.",
  });
}

function summary({ alerts, at }) {
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  const old = age(at) > OLD_SECONDS ? `; the watcher last looked ${short(duration(age(at)))} ago` : "";
  return `${firing ? plural(firing, "alert fires", "alerts fire") : "none fires"}${old}`;
}

function showAdvice(advice, nothing) {
  const list = byId("advice");
  const lines = advice.length ? advice : [nothing];
  if (lines.join("\n") === [...list.children].map((item) => item.textContent).join("\n")) return;
  list.replaceChildren(...lines.map((line) => el("li", { className: advice.length ? "" : "empty" }, line)));
}

function showJob(job) {
  const state = byId("job-state");
  setText(state, job ? `The job is ${job.state}` : "The job is not known yet");
  setState(state, job?.state === "running" ? "running" : "low");
  const since = job?.since > 0 ? `for ${duration(age(job.since))}` : "";
  setText(byId("job-note"), [since, job?.next_step ?? ""].filter(Boolean).join(". "));
}

/** What is wrong, the alert's name, and a link to the section of the runbook, as this worker shows it. */
function updateAlert(cell, alert) {
  if (!cell.firstElementChild) cell.append(el("span"), el("span", { className: "under" }), el("a"));
  const [summary, name, link] = cell.children;
  setText(summary, alert.summary);
  setText(name, alert.inhibited_by ? `${alert.name}, because of ${alert.inhibited_by}` : alert.name);
  link.hidden = !alert.section;
  if (link.hidden) return;
  link.href = `/runbook/${encodeURIComponent(alert.section)}`;
  link.title = `docs/runbook.md#${alert.section}`;
  setText(link, "What to do");
}

function updateAlertState(cell, alert) {
  if (!cell.firstElementChild) cell.append(el("span"), el("span", { className: "under" }));
  const since = short(duration(age(alert.since)));
  setText(cell.firstElementChild, STATES[alert.state] ?? alert.state);
  setState(cell.firstElementChild, alert.state);
  setText(cell.lastElementChild, alert.state === "pending" ? `for ${since}; it fires if this lasts` : `for ${since}`);
}

function checkpointState(one) {
  const parts = `${one.completed_partitions} of ${plural(one.partitions, "partition")}`;
  if (one.status === "COMPLETED") return "completed";
  if (one.status !== "FAILED") return `in progress: ${parts}`;
  return `failed: ${parts}; ${[...new Set(one.failures.map((failure) => failure.reason))].join(", ")}`;
}

/** 99.98 %, never rounded up. */
function percent(value) {
  return value == null ? UNKNOWN : short(`${Math.floor(value * 1000 + 1e-6) / 1000} %`);
}

function budget(left) {
  if (left == null) return UNKNOWN;
  if (left <= 0) return { text: "spent", state: "spent" };
  const text = short(`${Math.floor(left * 100)} %`);
  return left < LOW_BUDGET ? { text: `${text}, low`, state: "low" } : { text, state: "good" };
}

function burn(rate) {
  if (rate == null) return UNKNOWN;
  const text = short(`${rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)} ×`);
  return rate > 1 ? { text: `${text}, too fast`, state: "low" } : { text, state: "good" };
}

const age = (since) => (since == null ? null : Math.max(0, Date.now() / 1000 - since));
const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/** A clause as a sentence. */
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");
