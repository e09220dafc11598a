// One timeline of what happened: the latest events of the workers, and the alerts that began to fire or cleared.

import { byId, column, updateRows } from "./dom.js";
import { utc } from "./format.js";

const MOST = 40;

const TIMELINE = [
  column((one) => utc(one.time), { className: "code whole" }),
  column((one) => one.who, { isHeader: true }),
  column((one) => ({ text: one.level, state: one.state })),
  column((one) => one.text, { className: "code" }),
];

export class Timeline {
  #events = [];
  #changes = [];

  setEvents(events) {
    this.#events = events.map((event) => ({
      key: `${event.process}/${event.sequence}`,
      time: event.time,
      who: event.worker,
      level: event.level,
      state: event.level,
      text: event.text,
    }));
  }

  setChanges(changes) {
    this.#changes = changes.map((change) => ({
      key: `${change.name}/${change.state}/${change.at}`,
      time: change.at * 1000,
      who: "watcher",
      level: change.priority,
      state: change.state === "firing" ? "firing" : "good",
      text: `alert ${change.name} ${change.state === "firing" ? "fires" : "cleared"}${change.inhibited_by ? `, because of ${change.inhibited_by}` : ""}`,
    }));
  }

  show() {
    const all = [...this.#events, ...this.#changes].sort((one, other) => other.time - one.time).slice(0, MOST);
    updateRows(byId("worker-events"), all, {
      key: (one) => one.key,
      columns: TIMELINE,
      empty: "Nothing has happened yet.",
    });
  }
}
