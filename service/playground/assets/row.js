// Row of an item: a button that clicks it, and a button that opens its details.

import { el, heard, seen } from "./dom.js";

/**
 * actions: click(itemId), open(itemId).
 * parts: lead stands before the item, notes below its name, tail after it.
 */
export function itemRow(items, itemId, actions, { lead = null, notes = [], tail }) {
  const title = items.title(itemId);
  const row = el(
    "li",
    {},
    el(
      "button",
      { type: "button", class: "row", click: () => actions.click(itemId) },
      lead,
      items.picture(itemId),
      el(
        "span",
        { class: "what" },
        el("span", { class: "name", dir: "auto" }, title),
        el(
          "span",
          { class: "more" },
          items.price(itemId),
          el("span", { class: "about", dir: "auto" }, items.about(itemId)),
          ...notes,
        ),
      ),
      ...tail,
    ),
    el(
      "button",
      { type: "button", class: "open", title: "Details", click: () => actions.open(itemId) },
      seen("⋯"),
      heard(`Details of ${title}`),
    ),
  );
  row.dataset.item = itemId;
  return row;
}
