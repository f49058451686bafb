// Dialog with the details of an item: picture, attributes, score, and what can be done with it.

import { byId, el } from "./dom.js";
import { nth, scoreText } from "./ranking.js";

export class Details {
  #itemId = null;

  /** click(itemId); likely: the list of the model; rules, stock: what an item can be set to. */
  constructor(items, { likely, rules, stock, click, failed }) {
    Object.assign(this, { items, likely, rules, stock, click, failed });
    this.dialog = byId("item");
    const closing = (id, act) => byId(id).addEventListener("click", () => this.#act(act));
    closing("item-close", () => {});
    closing("item-click", (itemId) => this.click(itemId));
    closing("item-pin", (itemId) => this.rules.pin(itemId));
    closing("item-out", (itemId) => this.rules.leaveOut(itemId));
    closing("item-stock", (itemId) => this.stock.set(itemId, false));
  }

  open(itemId) {
    this.#itemId = itemId;
    byId("item-title").textContent = this.items.title(itemId);
    byId("item-picture").replaceChildren(...[this.items.picture(itemId)].filter(Boolean));
    const facts = [...this.items.facts(itemId), ...this.#placed(itemId)];
    if (this.stock.offered) facts.push(["availability", this.stock.isSoldOut(itemId) ? "sold out" : "in stock"]);
    const pair = ([name, text]) => el("div", {}, el("dt", {}, name), el("dd", { dir: "auto" }, text));
    byId("item-facts").replaceChildren(...facts.map(pair));
    byId("item-pin").textContent = this.rules.isPinned(itemId) ? "Do not pin" : "Pin first";
    byId("item-out").textContent = this.rules.isLeftOut(itemId) ? "Do not leave out" : "Leave out";
    byId("item-stock").hidden = !this.stock.offered || this.stock.isSoldOut(itemId);
    this.dialog.showModal();
  }

  #placed(itemId) {
    const rank = this.likely.rank(itemId);
    return rank === null ? [] : [["likely next", nth(rank)], ["score", scoreText(this.likely.score(itemId))]];
  }

  async #act(act) {
    this.dialog.close();
    try {
      await act(this.#itemId);
    } catch (error) {
      this.failed(error);
    }
  }
}
