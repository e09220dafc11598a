// What passes by: the newest dead letters, and a sample of committed outputs.

import { byId, column, el, setText, updateRows } from "./dom.js";
import { amount, UNKNOWN, utc } from "./format.js";

const KEPT_OUTPUTS = 30;

const LETTERS = [
  column((letter) => utc(letter.timestamp)),
  column((letter) => letter.code ?? UNKNOWN, { isHeader: true }),
  column((letter) => letter.message ?? "its headers do not say why"),
  column((letter) => letter.key ?? "no key", { className: "code" }),
  column(sourceOf, { className: "code" }),
];

const OUTPUTS = [
  { isHeader: true, className: "code", update: updatePortfolio },
  column(({ event }) => (event ? String(event.sequence) : ""), { isNumber: true }),
  column(({ event }) => event?.type ?? ""),
  column(({ event }) => event?.event_id ?? "", { className: "code" }),
  column(({ event }) => (event?.position ? `${amount(event.position.quantity)} ${event.position.symbol}` : "")),
  column(({ event }) => (event?.cash ? `${amount(event.cash.balance)} ${event.cash.currency}` : "")),
  column(({ event }) => (event ? `${event.source.partition} / ${event.source.offset}` : ""), { className: "code" }),
];

const placeOf = ({ partition, offset }) => `${partition}/${offset}`;

export function showLetters(letters) {
  updateRows(byId("letters"), letters, {
    key: placeOf,
    columns: LETTERS,
    empty: "None. Every event so far was accepted.",
  });
}

export class Outputs {
  #kept = [];

  record({ records, sampled }) {
    const known = new Set(this.#kept.map(placeOf)); // a new connection brings the last batch again
    const fresh = records.filter((record) => !known.has(placeOf(record)));
    this.#kept = [...fresh.toReversed(), ...this.#kept].slice(0, KEPT_OUTPUTS);
    this.sampled = sampled;
  }

  show() {
    setText(byId("outputs-note"), this.sampled ? "a sample: they come faster than they are shown" : "");
    updateRows(byId("outputs"), this.#kept, { key: placeOf, columns: OUTPUTS, empty: "None has come yet." });
  }
}

function sourceOf(letter) {
  if (letter.source_topic == null) return `dead letter ${letter.partition} / ${letter.offset}`;
  return `${letter.source_topic} ${letter.source_partition} / ${letter.source_offset}`;
}

/** A link that looks the portfolio up; a record that is no output says so. */
function updatePortfolio(cell, { event, partition, offset }) {
  if (!event) {
    setText(cell, `no output: partition ${partition}, offset ${offset}`);
    return;
  }
  const link = cell.firstElementChild ?? cell.appendChild(el("a"));
  setText(link, event.portfolio_id);
  link.href = `#portfolio=${encodeURIComponent(event.portfolio_id)}`;
}
