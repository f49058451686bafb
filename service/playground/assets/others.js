// Recommendations of a simpler recommender for the same visit.

import { Refused } from "./api.js";
import { BASELINES } from "./calls.js";
import { byId, el } from "./dom.js";
import { SHOWN } from "./likely.js";
import { Ranking, nth } from "./ranking.js";

export class Others {
  #turn = 0;
  #asked = null; // of which session state the list is, so that it is not asked for twice

  /** likely: the list of the model, shown beside this one. */
  constructor(api, session, items, { likely, rules, actions, failed }) {
    Object.assign(this, { api, session, items, likely, rules, failed });
    const note = (itemId) => this.#also(itemId);
    this.ranking = new Ranking(byId("others"), items, { shown: SHOWN, actions, note });
    this.choice = byId("baseline");
    this.choice.append(...BASELINES.map(({ name }) => el("option", {}, name)));
    this.choice.addEventListener("change", () => this.show(this.modelId));
  }

  /** modelId: the model of the other list. */
  async show(modelId) {
    this.modelId = modelId;
    const turn = ++this.#turn;
    const baseline = BASELINES[this.choice.selectedIndex];
    byId("baseline-words").textContent = baseline.words;
    const rules = this.rules.body;
    const asked = JSON.stringify([baseline.name, modelId, baseline.sees(this.session), rules]);
    if (asked === this.#asked) {
      this.ranking.renote((itemId) => this.likely.mark(itemId));
      return;
    }
    try {
      const found = await this.#ask(baseline, rules);
      await this.items.know(found.slice(0, SHOWN).map((item) => item.item_id));
      if (turn === this.#turn) this.#fill(found, asked);
    } catch (error) {
      this.failed(error, () => turn === this.#turn && this.show(modelId));
    }
  }

  startOver() {
    this.ranking.startOver();
  }

  /** Request the list again, although the visit is the same. */
  outdate() {
    this.#asked = null;
  }

  async #ask(baseline, rules) {
    if (baseline.sees(this.session) === undefined) return [];
    try {
      return (await baseline.ask(this.api, this.session, rules)).items;
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return []; // the model lacks the item
      throw error;
    }
  }

  #fill(found, asked) {
    this.#asked = asked;
    this.ranking.show(found, (itemId) => this.likely.mark(itemId));
    byId("others-empty").hidden = found.length > 0;
    byId("others-empty").textContent =
      this.session.last === undefined ? "Click an item first." : "There is no such item by these rules.";
  }

  /** Show the ranks of the model for the items of this list. */
  #also(itemId) {
    const rank = this.likely.rank(itemId);
    if (rank === null || this.session.clicks.length === 0) return null;
    return el("span", { class: "note also" }, `model: ${nth(rank)}`);
  }
}
