// Availability of items, set in the live catalogue by a key of its own.

import { Refused } from "./api.js";

const SETTLING_MS = [0, 300, 700, 1000]; // until every process of the service has read a change

export class Stock {
  #soldOut = new Set(); // by this page

  /** changed(itemId): requests the lists again; returns whether they have settled. */
  constructor(api, changed) {
    Object.assign(this, { api, changed });
    this.offered = "stock" in document.documentElement.dataset; // the service takes changes
  }

  isSoldOut(itemId) {
    return this.#soldOut.has(itemId);
  }

  async set(itemId, available) {
    const change = { items: [{ item_id: itemId, available }] };
    const { errors } = await this.api.put("v1/items", change);
    if (errors.length > 0) throw new Refused({ detail: errors[0].message, status: 422 });
    if (available) this.#soldOut.delete(itemId);
    else this.#soldOut.add(itemId);
    for (const wait of SETTLING_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (await this.changed(itemId)) return;
    }
  }
}
