// Puts the parts together: one stream of events, what shows them, and the reader's controls.

import { byId, el, setState, setText } from "./dom.js";
import { clock } from "./format.js";
import { Group, workerUrl } from "./group.js";
import { Hours } from "./history.js";
import { Live } from "./live.js";
import { setUpLookup } from "./lookup.js";
import { Outputs, showLetters } from "./tails.js";
import { setUpTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { showWatch } from "./watch.js";

const group = new Group();
const hours = new Hours();
const outputs = new Outputs();
const timeline = new Timeline();
const newest = {};
let isPaused = false;
let heard = null;

/** What is kept of an event also while the page is paused. */
const RECORD = {
  group: (state) => {
    group.record(state);
    timeline.setEvents(state.events);
  },
  watch: (watch) => timeline.setChanges(watch.changes),
  outputs: (batch) => outputs.record(batch),
};
const SHOW = {
  group: (state) => {
    group.show(state);
    timeline.show();
  },
  watch: (watch) => {
    showWatch(watch);
    hours.setLimits(watch.limits);
    timeline.show();
  },
  history: (history) => hours.show(history),
  outputs: () => outputs.show(),
  "dead-letters": showLetters,
};

function receive(name, value) {
  heard = new Date();
  newest[name] = value;
  RECORD[name]?.(value);
  if (!isPaused) SHOW[name](value);
}

function connected(isOpen) {
  const chip = byId("connection");
  const state = isOpen ? (isPaused ? "paused" : "live") : "lost";
  if (chip.dataset.state === state) return;
  setState(chip, state);
  setText(chip, { live: "Live", paused: "Paused", lost: "Connection lost, reconnecting" }[state]);
  document.body.classList.toggle("stale", !isOpen);
  byId("lost").hidden = isOpen;
  if (!isOpen) showLost();
}

function showLost() {
  setText(byId("lost-since"), heard ? `What you see is of ${clock(heard)}.` : "Nothing was received yet.");
  const others = (newest.group?.workers ?? [])
    .filter((worker) => worker.worker !== newest.group.served_by && worker.state !== "gone" && workerUrl(worker))
    .map((worker) => el("a", { href: workerUrl(worker) }, `${worker.worker} at ${worker.address}`));
  const text = others.length ? "Other workers show the same view: " : "No other worker is known.";
  byId("others").replaceChildren(text, ...others.flatMap((link, index) => (index ? [", ", link] : [link])));
}

function setUpPause(button) {
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    document.body.classList.toggle("paused", isPaused);
    if (byId("connection").dataset.state !== "lost") connected(true);
    if (!isPaused) for (const [name, value] of Object.entries(newest)) SHOW[name](value);
  });
}

setUpTheme(byId("theme"));
setUpPause(byId("pause"));
setUpLookup();
new Live(Object.fromEntries(Object.keys(SHOW).map((name) => [name, (value) => receive(name, value)])), connected).open();
