// Items to start with: popular ones of different categories.

import { byId, el } from "./dom.js";

const OFFERED = 6;
const AMONG = 100;

export async function starters(page) {
  const { api, items } = page;
  const found = (await api.get(`v1/items?limit=${AMONG}`)).items;
  items.keep(found);
  const kind = items.kind?.name;
  const kinds = new Set();
  const chosen = found.filter(({ attributes }) => {
    if (kind === undefined) return true;
    const isNew = attributes[kind] !== undefined && !kinds.has(attributes[kind]);
    kinds.add(attributes[kind]);
    return isNew;
  });
  const cards = (chosen.length > 1 ? chosen : found).slice(0, OFFERED).map(({ item_id: itemId, attributes }) =>
    el(
      "button",
      { type: "button", class: "starter", click: () => page.click(itemId) },
      el("span", { class: "about", dir: "auto" }, kind ? (attributes[kind] ?? "") : "popular"),
      el("span", { class: "name", dir: "auto" }, items.title(itemId)),
    ),
  );
  const watch = el(
    "button",
    { type: "button", class: "starter watch", click: () => page.walk.start() },
    el("span", { class: "about" }, "or just"),
    el("span", { class: "name" }, "Watch a visit"),
  );
  byId("starters").replaceChildren(...cards, watch);
}
