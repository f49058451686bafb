// Availability of items, changed in the live catalogue by a key of its own.

import { Refused } from "./api.js";
import { byId, el } from "./dom.js";

const SETTLING_MS = [0, 300, 700, 1000]; // until every process of the service has read a change

export class Stock {
  #soldOut = new Set(); // by this page

  /** changed(itemId): requests the lists again; returns whether they have settled. */
  constructor(api, items, { changed, failed }) {
    Object.assign(this, { api, items, changed, failed });
    this.offered = "stock" in document.documentElement.dataset; // the service takes changes
  }

  isSoldOut(itemId) {
    return this.#soldOut.has(itemId);
  }

  async set(itemId, available) {
    const { errors } = await this.api.put("v1/items", { items: [{ item_id: itemId, available }] });
    if (errors.length > 0) throw new Refused({ detail: errors[0].message, status: 422 });
    if (available) this.#soldOut.delete(itemId);
    else this.#soldOut.add(itemId);
    this.#show();
    for (const wait of SETTLING_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (await this.changed(itemId)) return;
    }
  }

  /** Show the items that are sold out: no list and no search has them. */
  #show() {
    const chip = (itemId) =>
      el(
        "button",
        { type: "button", class: "value", title: "Back in stock", click: () => this.set(itemId, true).catch(this.failed) },
        this.items.picture(itemId),
        `sold out: ${this.items.title(itemId)} ×`,
      );
    byId("sold-out").replaceChildren(...[...this.#soldOut].map(chip));
  }
}
