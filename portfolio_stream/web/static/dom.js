// Elements without markup: all data becomes text nodes or plain properties, never HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties (className, scope, title ...) and children: nodes, or anything shown as text. */
export function el(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** An SVG element with attributes and a text. */
export function svg(tag, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...(text ? [text] : []));
  return made;
}

/** Only what differs is touched: a screen reader is not told twice, a selection survives. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setState(element, state) {
  if (element.dataset.state !== state) element.dataset.state = state;
}

/**
 * Table rows by key, kept across updates so that focus and selection stay. Each column has update(cell, item); with no
 * items `empty` is said in one cell.
 */
export function updateRows(body, items, { key, columns, empty }) {
  const rows = new Map([...body.children].filter((row) => row.dataset.key).map((row) => [row.dataset.key, row]));
  if (items.length === 0) {
    const said = body.querySelector(".empty");
    if (rows.size || !said) {
      body.replaceChildren(el("tr", {}, el("td", { colSpan: columns.length, className: "empty" }, empty)));
    } else setText(said, empty);
    return;
  }
  const wanted = items.map((item) => {
    const name = key(item);
    const row = rows.get(name) ?? newRow(name, columns);
    columns.forEach((column, index) => column.update(row.children[index], item));
    return row;
  });
  if (wanted.length !== body.children.length || wanted.some((row, index) => body.children[index] !== row)) {
    body.replaceChildren(...wanted);
  }
}

function newRow(name, columns) {
  const row = el("tr", {}, ...columns.map(({ isHeader, isNumber, className = "" }) =>
    el(isHeader ? "th" : "td", { ...(isHeader && { scope: "row" }), className: isNumber ? "number" : className })));
  row.dataset.key = name;
  return row;
}

/** A column that shows text; `of(item)` may give {text, state} too. */
export function column(of, options = {}) {
  return {
    ...options,
    update(cell, item) {
      const shown = of(item);
      const { text, state } = typeof shown === "object" ? shown : { text: shown };
      setText(cell, text);
      if (state) setState(cell, state);
    },
  };
}
