// One portfolio: cash, positions, valuation, as its owner has committed them.

import { byId, el } from "./dom.js";
import { amount, plural, UNKNOWN } from "./format.js";

const ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/;
const HASH = "#portfolio=";

/** The form, and links to #portfolio=ID, which also make an answer a thing to bookmark. */
export function setUpLookup() {
  byId("lookup").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("lookup-id").value.trim();
    if (location.hash === HASH + encodeURIComponent(id)) lookUp(id);
    else location.hash = HASH + encodeURIComponent(id);
  });
  addEventListener("hashchange", followHash);
  followHash();
}

function followHash() {
  if (!location.hash.startsWith(HASH)) return;
  const id = decoded(location.hash.slice(HASH.length));
  byId("lookup-id").value = id;
  lookUp(id);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not percent-encoded: the check of the id says so
  }
}

let asked = 0;

async function lookUp(id) {
  const mine = ++asked;
  if (!ID.test(id)) {
    say("A portfolio id is 1 to 64 letters, digits, dots, underscores, colons or dashes, and begins with a letter or digit.");
    return;
  }
  byId("lookup-said").textContent = `Looking up ${id}…`;
  const answer = await ask(id);
  if (mine !== asked) return; // another one was asked for meanwhile
  if (typeof answer === "string") say(answer);
  else show(answer);
}

/** The portfolio, or why there is none in words. */
async function ask(id) {
  try {
    const response = await fetch(`/portfolios/${encodeURIComponent(id)}`, { headers: { Accept: "application/json" } });
    if (response.status === 401) {
      location.reload();
      return "The session is over: sign in again.";
    }
    const body = await response.json();
    return response.ok ? body : (body.detail ?? `The worker answered ${response.status}.`);
  } catch {
    return "The worker did not answer. Try again.";
  }
}

function say(text) {
  byId("lookup-said").textContent = text;
  byId("lookup-answer").replaceChildren();
}

function show(answer) {
  const unpriced = answer.unpriced ?? [];
  byId("lookup-said").textContent =
    `${answer.portfolio_id}: ${plural(answer.sequence, "event")}, ${plural((answer.positions ?? []).length, "position")}.`;
  byId("lookup-answer").replaceChildren(
    byCurrency(answer),
    positions(answer.positions ?? []),
    ...(unpriced.length ? [unpricedNote(unpriced)] : []),
    el("p", { className: "note" },
      `Partition ${answer.partition}, up to source offset ${answer.offset ?? UNKNOWN}, from worker ${answer.worker}.`),
  );
}

function byCurrency({ cash = {}, fees = {}, dividends = {}, valuation = {} }) {
  const currencies = [...new Set([cash, fees, dividends, valuation].flatMap(Object.keys))].sort();
  const rows = currencies.map((currency) => [
    currency,
    cash[currency],
    valuation[currency]?.market_value,
    valuation[currency]?.unrealised_pnl,
    fees[currency],
    dividends[currency],
  ]);
  return table("Cash and valuation",
    ["Currency", "Cash", "Market value", "Unrealised profit", "Fees", "Dividends"], rows, "No cash was booked.");
}

function positions(held) {
  const rows = held.map((position) => [
    position.symbol,
    position.quantity,
    position.average_cost,
    position.cost_basis,
    position.price,
    position.market_value,
    position.unrealised_pnl,
    position.realised_pnl,
    position.currency,
  ]);
  return table("Positions",
    ["Symbol", "Quantity", "Average cost", "Cost basis", "Price", "Market value", "Unrealised profit",
      "Realised profit", "Currency"], rows, "No positions.");
}

function unpricedNote(unpriced) {
  const list = unpriced.map(({ symbol, reason }) => (reason ? `${symbol} (${reason})` : symbol)).join(", ");
  return el("p", {}, `Not in the valuation: ${list}.`);
}

/** The first column is a row's name; all others but a last "Currency" are amounts. */
function table(caption, names, rows, empty) {
  const isNumber = (index) => index > 0 && names[index] !== "Currency";
  const cell = (tag, index, text, properties = {}) =>
    el(tag, { ...properties, className: isNumber(index) ? "number" : "" }, text ?? UNKNOWN);
  const shown = (index, text) => (isNumber(index) && text != null ? amount(text) : text);
  const body = rows.length
    ? rows.map((row) => el("tr", {}, ...row.map((text, index) =>
        (index ? cell("td", index, shown(index, text)) : cell("th", index, text, { scope: "row" })))))
    : [el("tr", {}, el("td", { colSpan: names.length, className: "empty" }, empty))];
  const made = el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...names.map((name, index) => cell("th", index, name, { scope: "col" })))),
    el("tbody", {}, ...body));
  const region = el("div", { className: "scroll", tabIndex: 0 }, made);
  region.setAttribute("role", "group");
  region.setAttribute("aria-label", caption);
  return region;
}
