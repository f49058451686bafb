// Connects the parts of the page: each click extends the visit and updates all that depends on it.

import { Api, Refused, Unreachable } from "./api.js";
import { forgetCall, stateCall, storeCall, visitCall } from "./calls.js";
import { Catalogue } from "./catalogue.js";
import { Details } from "./details.js";
import { byId } from "./dom.js";
import { Facts } from "./facts.js";
import { Health } from "./health.js";
import { Items } from "./items.js";
import { askForKey } from "./key.js";
import { Likely, SHOWN } from "./likely.js";
import { Others } from "./others.js";
import { Rules } from "./rules.js";
import { Session } from "./session.js";
import { starters } from "./starters.js";
import { State } from "./state.js";
import { Stock } from "./stock.js";
import { Strip } from "./strip.js";
import { Types } from "./types.js";
import { Walk } from "./walk.js";

class Playground {
  #turn = 0; // answers of earlier turns are not shown any more
  #line = Promise.resolve(); // clicks reach the service in the order in which they were made

  constructor() {
    const click = (itemId) => this.click(itemId);
    const failed = (error, again) => this.failed(error, again);
    const actions = { click, open: (itemId) => this.details.open(itemId) };
    const api = (this.api = new Api(document.baseURI, askForKey, {
      waits: (seconds) => this.health.limited(seconds),
      goesOn: () => this.health.calm(),
    }));
    const session = (this.session = new Session());
    const items = (this.items = new Items(api));
    this.types = new Types();
    this.facts = new Facts(api, this.types);
    this.state = new State();
    this.strip = new Strip(session, items, (one) => this.toggle(one));
    const rules = (this.rules = new Rules(items, () => this.#ask(null)));
    const likely = (this.likely = new Likely(api, session, items, rules, actions));
    const stock = (this.stock = new Stock(api, items, { changed: (itemId) => this.#restocked(itemId), failed }));
    this.others = new Others(api, session, items, { likely, rules, actions, failed });
    this.catalogue = new Catalogue(api, items, { actions, failed });
    this.details = new Details(items, { likely, rules, stock, click, failed });
    this.health = new Health(api, () => this.#recovered());
    this.walk = new Walk(byId("walk"), () => this.likely.unclicked, click);
    byId("over").addEventListener("click", () => this.startOver());
    byId("fresh").addEventListener("change", () => this.#ask(null));
  }

  async start() {
    try {
      await Promise.all([this.facts.show(), this.items.look()]);
      this.catalogue.offer();
      this.rules.offer();
      await Promise.all([this.#ask(null), starters(this), this.catalogue.show()]);
    } catch (error) {
      this.failed(error, () => this.start());
    }
  }

  click(itemId) {
    performance.mark("click");
    const click = this.session.add(itemId, this.types.chosen, this.likely.listOf(itemId));
    this.strip.show();
    return this.#ask(click);
  }

  toggle(click) {
    this.session.toggle(click);
    this.strip.show();
    return this.#ask(null);
  }

  startOver() {
    this.walk.stop();
    this.api.delete(forgetCall(this.session)).catch(() => {}); // else it ends by itself, later
    this.session.startOver();
    this.likely.startOver();
    this.others.startOver();
    this.strip.show();
    byId("starters").querySelector("button")?.focus({ preventScroll: true });
    return this.#ask(null);
  }

  /** Request everything that depends on the visit; `click` is the new click, or null. */
  #ask(click) {
    const turn = ++this.#turn;
    const fresh = byId("fresh").checked ? { exclude_seen: true } : {};
    const call = visitCall(this.session, click, { ...fresh, ...this.rules.body });
    return this.#inLine(async () => {
      try {
        await this.#answer(turn, call, click);
      } catch (error) {
        this.failed(error, () => turn === this.#turn && this.#ask(click));
      }
    });
  }

  #inLine(job) {
    const done = this.#line.then(job);
    this.#line = done.catch(() => {});
    return done;
  }

  async #answer(turn, call, click) {
    const began = performance.now();
    const answer = await this.api.post(call.path, call.body);
    const took = performance.now() - began;
    if (turn === this.#turn) {
      await this.items.know(answer.items.slice(0, SHOWN).map((item) => item.item_id));
      this.likely.show(call, answer, took);
      requestAnimationFrame(() => setTimeout(() => performance.mark("shown")));
      this.health.calm();
      this.#aside(turn, answer);
    }
    if (click !== null) await this.#noteStored(click, call, answer);
  }

  /** Update the parts that wait until the list is shown. */
  async #aside(turn, answer) {
    try {
      if (answer.degraded) this.health.look();
      if (!this.facts.answered(answer)) await this.#newModel();
      await Promise.all([this.#showState(turn), this.others.show(answer.model_id)]);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Reload items and attributes after another model has taken over. */
  async #newModel() {
    this.items.forget();
    await Promise.all([this.facts.show(), this.items.look()]);
    this.catalogue.offer();
    this.rules.offer();
    await this.catalogue.show();
  }

  /** Request the lists again; return whether an item that is sold out has gone from them. */
  async #restocked(itemId) {
    this.others.outdate();
    await Promise.all([this.#ask(null), this.catalogue.show()]);
    return this.stock.isSoldOut(itemId) && this.likely.rank(itemId) === null;
  }

  async #showState(turn) {
    if (this.session.items.length === 0) return this.state.startOver();
    const { path, body } = stateCall(this.session);
    const { layers } = await this.api.post(path, body);
    if (turn === this.#turn) this.state.show(layers.at(-1).slice(0, this.facts.hidden), body.items.length);
  }

  async #noteStored(click, call, answer) {
    click.stored = answer.stored;
    if (call.body.user_id === undefined) await this.#store([click]); // asked without storing
    this.strip.show();
  }

  async #store(clicks) {
    const { path, body } = storeCall(this.session, clicks);
    try {
      await this.api.post(path, body);
      for (const click of clicks) click.stored = true;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 503) throw error; // Redis: a banner says it
    }
  }

  /** Store the whole visit, each click once, when the service or Redis is back. */
  async #recovered() {
    if (this.facts.modelId === null) return this.start();
    if (this.session.clicks.length > 0) {
      await this.#inLine(() => this.#store(this.session.clicks));
      if (this.session.unstored.length > 0) throw new Unreachable("Redis is not back for good.");
      this.strip.show();
    }
    if (byId("items").childElementCount === 0) await this.catalogue.show();
    return this.#ask(null);
  }

  /** again(): repeats the call when the service has time. */
  failed(error, again) {
    this.walk.stop();
    if (error instanceof Unreachable) {
      this.health.look();
    } else if (error instanceof Refused && error.status === 503 && again) {
      this.health.complain(`${error.message} The page asks again by itself.`);
      setTimeout(again, 1000 * error.retryAfter);
    } else {
      this.health.complain(error.message);
      if (!(error instanceof Refused)) throw error;
    }
  }
}

new Playground().start();
