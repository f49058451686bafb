// Recommendations for the visit: the list, its source, its latency and the call.

import { curl } from "./curl.js";
import { byId, el, number } from "./dom.js";
import { Ranking, change } from "./ranking.js";

export const SHOWN = 12;
const COPIED_MS = 2000;
const SOURCES = { model: "model", popular: "popular items", degraded: "degraded: this click alone" };

export class Likely {
  #listId = null; // of the list shown, if the service logs feedback

  constructor(api, session, items, rules, actions) {
    Object.assign(this, { api, session, items, rules });
    this.ranking = new Ranking(byId("likely"), items, { shown: SHOWN, actions, note: change });
    byId("copy").addEventListener("click", () => this.#copy());
  }

  /** call: the request; took: milliseconds until the answer. */
  show(call, answer, took) {
    this.#listId = answer.list_id ?? null;
    this.ranking.show(answer.items, (itemId) => this.mark(itemId));
    byId("likely-empty").hidden = answer.items.length > 0;
    byId("curl").textContent = curl(this.api.url(call.path), call.body, this.api.keyed);
    this.#pills(answer, took);
    this.#say(answer);
  }

  rank(itemId) {
    return this.ranking.rank(itemId);
  }

  /** Return the id of the list if it shows this item, or null. */
  listOf(itemId) {
    return this.ranking.shownItems.includes(itemId) ? this.#listId : null;
  }

  score(itemId) {
    return this.ranking.score(itemId);
  }

  /** Return a word about an item in a list, or null. */
  mark(itemId) {
    if (this.rules.isPinned(itemId)) return "pinned";
    return this.session.has(itemId) ? "clicked" : null;
  }

  /** Return the most likely item that was not clicked, if there is one. */
  get unclicked() {
    return this.ranking.shownItems.find((itemId) => !this.session.has(itemId));
  }

  startOver() {
    this.ranking.startOver();
  }

  #pills(answer, took) {
    const source = answer.degraded ? "degraded" : answer.source;
    const out = this.session.leftOut;
    const shown = answer.items.slice(0, SHOWN);
    const again = shown.filter((item) => this.session.has(item.item_id)).length;
    const pills = [
      el("span", { class: `pill ${source}`, title: "where this list comes from" }, SOURCES[source]),
      el("span", { class: "pill", title: "from asking until it was answered" }, `${took.toFixed(1)} ms`),
    ];
    if (again > 0) {
      const share = `${number(again)} of ${number(shown.length)} clicked before`;
      pills.push(el("span", { class: "pill again", title: "items of this visit in the list" }, share));
    }
    if (out > 0) pills.push(el("span", { class: "pill what-if" }, `what if: without ${number(out)}`));
    else if (answer.stored) pills.push(el("span", { class: "pill", title: "the click is in Redis" }, "stored"));
    byId("meta").replaceChildren(...pills);
  }

  #say(answer) {
    const begun = this.session.clicks.length > 0;
    const best = answer.items.slice(0, 3).map((item) => this.items.title(item.item_id));
    byId("peek").textContent = begun ? (best[0] ?? "") : "";
    byId("said").textContent = begun ? `Likely next: ${best.join(", ")}.` : "";
  }

  async #copy() {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(byId("curl").textContent);
    } catch {
      getSelection().selectAllChildren(byId("curl")); // a page without https may not; a person can
      said = "Selected: copy it";
    }
    byId("copy").textContent = said;
    byId("said").textContent = said;
    setTimeout(() => (byId("copy").textContent = "Copy"), COPIED_MS);
  }
}
