// Items to start with: popular ones of different categories.

import { popularCall } from "./calls.js";
import { byId, el } from "./dom.js";

const OFFERED = 6;

export async function starters(page) {
  const { api, items } = page;
  const { path, body } = popularCall(items.kind, OFFERED);
  const ids = (await api.post(path, body)).items.map((item) => item.item_id);
  await items.know(ids);
  const cards = ids.map((itemId) =>
    card(
      { click: () => page.click(itemId) },
      items.about(itemId) || "popular",
      items.title(itemId),
      items.picture(itemId),
    ),
  );
  const watch = card({ click: () => page.walk.start(), watch: true }, "or just", "Watch a visit", null);
  byId("starters").replaceChildren(...cards, watch);
}

function card({ click, watch = false }, about, title, picture) {
  const words = el(
    "span",
    { class: "words" },
    el("span", { class: "about", dir: "auto" }, about),
    el("span", { class: "name", dir: "auto" }, title),
  );
  return el("button", { type: "button", class: watch ? "starter watch" : "starter", click }, picture, words);
}
