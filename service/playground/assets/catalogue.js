// Search and browse: words, one attribute's values as buttons, pages that follow each other.

import { byId, el, number } from "./dom.js";
import { itemRow } from "./row.js";

const PAGE = 20;
const PAUSE_MS = 120; // between key strokes and the search

export class Catalogue {
  #value = null;
  #shown = 0;
  #turn = new AbortController();
  #pause = null;

  /** actions: of the buttons of a row. */
  constructor(api, items, { actions, failed }) {
    Object.assign(this, { api, items, actions, failed });
    this.words = byId("words");
    this.list = byId("items");
    this.words.addEventListener("input", () => {
      clearTimeout(this.#pause);
      this.#pause = setTimeout(() => this.show(), PAUSE_MS);
    });
    byId("more").addEventListener("click", () => this.#page(this.#shown));
  }

  /** The values to browse by, if there are any. */
  offer() {
    const kind = this.items.kind;
    byId("values").hidden = kind === null;
    if (kind === null) return;
    byId("values").setAttribute("aria-label", `Items of one ${kind.name}`);
    const button = (value, words) =>
      el("button", { type: "button", class: "value", "aria-pressed": value === this.#value, click: () => this.#choose(value) }, words);
    const values = kind.values.map(({ value }) => button(value, value));
    byId("values").replaceChildren(button(null, "All"), ...values);
  }

  show() {
    return this.#page(0);
  }

  #choose(value) {
    this.#value = value;
    const buttons = [...byId("values").children];
    const chosen = this.items.kind.values.findIndex((one) => one.value === value) + 1;
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", at === chosen));
    return this.show();
  }

  async #page(offset) {
    this.#turn.abort();
    this.#turn = new AbortController();
    const { signal } = this.#turn;
    const asked = new URLSearchParams({ q: this.words.value, limit: PAGE, offset });
    if (this.#value !== null) asked.append("filter", `${this.items.kind.name}:${this.#value}`);
    try {
      const found = await this.api.get(`v1/items?${asked}`, signal);
      this.items.keep(found.items);
      if (!signal.aborted) this.#fill(found, offset);
    } catch (failed) {
      if (!signal.aborted) this.failed(failed, () => this.#page(offset));
    }
  }

  #fill({ total, items }, offset) {
    const rows = items.map((item) => this.#row(item));
    if (offset === 0) this.list.replaceChildren(...rows);
    else this.list.append(...rows);
    if (offset > 0) rows[0]?.firstChild.focus();
    this.#shown = offset + items.length;
    byId("found").textContent = total === 1 ? "1 item" : `${number(total)} items`;
    byId("more").hidden = this.#shown >= total;
    byId("items-empty").hidden = total > 0;
    byId("items-empty").replaceChildren(
      el("p", {}, "Nothing here has ", el("b", { dir: "auto" }, this.words.value), " in its id, its name or another attribute."),
      el("button", { type: "button", class: "button", click: () => this.#clear() }, "Show everything"),
    );
  }

  #clear() {
    this.words.value = "";
    this.words.focus();
    return this.items.kind ? this.#choose(null) : this.show();
  }

  #row({ item_id: itemId, clicks }) {
    const count = el("span", { class: "count" }, clicks === 1 ? "1 click" : `${number(clicks)} clicks`);
    return itemRow(this.items, itemId, this.actions, { tail: [count] });
  }
}
