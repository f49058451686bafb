// Rules of the lists, set by hand: filters, limits, a boost, and items that are pinned or left out.

import { byId, el } from "./dom.js";

const MOST_CHOICES = 3; // attributes to filter by a value
const MOST_RANGES = 2; // attributes to filter by a number
const LIMITS = [1, 2, 3, 5];
const BOOSTS = { a_little: 1, more: 2, much: 4, less: -2 };

export class Rules {
  #fields = []; // functions that add the rule of a field to the body of a call
  #pinned = new Set();
  #leftOut = new Set();

  /** changed(): some rule is another one now. */
  constructor(items, changed) {
    Object.assign(this, { items, changed });
    this.form = byId("rules-form");
    this.form.addEventListener("change", () => this.#update());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("rules-reset").addEventListener("click", () => this.#reset());
  }

  /** Show a field for each rule that the attributes of the items allow, all of them unset. */
  offer() {
    const { few, numbers } = this.items;
    const attributes = [this.items.kind, ...few.filter((one) => one !== this.items.kind)].filter(Boolean);
    const offered = attributes.slice(0, MOST_CHOICES);
    this.#fields = [];
    byId("rules-fields").replaceChildren(
      ...offered.map((attribute) => this.#choice(attribute)),
      ...numbers.slice(0, MOST_RANGES).map((name) => this.#range(name)),
      ...(offered.length > 0 ? [this.#limit(offered), this.#boost(offered)] : []),
      this.#backfill(),
    );
    this.#pinned.clear();
    this.#leftOut.clear();
    this.#show();
  }

  /** The rules as fields of a call. */
  get body() {
    const body = {};
    for (const add of this.#fields) add(body);
    if (this.#pinned.size > 0) body.pin = [...this.#pinned];
    if (this.#leftOut.size > 0) body.exclude_items = [...this.#leftOut];
    return body;
  }

  isPinned(itemId) {
    return this.#pinned.has(itemId);
  }

  isLeftOut(itemId) {
    return this.#leftOut.has(itemId);
  }

  /** Pin an item at the top, or no longer. */
  pin(itemId) {
    this.#toggle(this.#pinned, itemId);
  }

  /** Leave an item out, or no longer. */
  leaveOut(itemId) {
    this.#toggle(this.#leftOut, itemId);
  }

  #toggle(chosen, itemId) {
    if (!chosen.delete(itemId)) chosen.add(itemId);
    this.#update();
  }

  #update() {
    this.#show();
    this.changed();
  }

  #reset() {
    this.form.reset();
    this.#pinned.clear();
    this.#leftOut.clear();
    this.#update();
    byId("rules").querySelector("summary").focus();
  }

  /** Show how many rules are set, and the items that are pinned or left out. */
  #show() {
    const body = this.body;
    const set = Object.entries(body).reduce(
      (sum, [name, rule]) => sum + (name === "filter" ? Object.keys(rule).length : 1),
      0,
    );
    byId("rules-count").hidden = set === 0;
    byId("rules-count").textContent = `${set} set`;
    byId("rules-reset").hidden = set === 0;
    const chip = (chosen, words) => (itemId) =>
      el(
        "button",
        { type: "button", class: "value", title: "Remove this rule", click: () => this.#toggle(chosen, itemId) },
        `${words}: ${this.items.title(itemId)} ×`,
      );
    byId("rules-items").replaceChildren(
      ...[...this.#pinned].map(chip(this.#pinned, "first")),
      ...[...this.#leftOut].map(chip(this.#leftOut, "left out")),
    );
  }

  #choice({ name, values }) {
    const select = el("select", {}, el("option", { value: "" }, "any"), ...values.map(({ value }) => option(value)));
    this.#fields.push((body) => {
      if (select.value !== "") body.filter = { ...body.filter, [name]: [select.value] };
    });
    return field(`Only ${name}`, select);
  }

  #range(name) {
    const bound = (words) =>
      el("input", { type: "number", step: "any", inputmode: "decimal", placeholder: words, "aria-label": `${name} ${words}` });
    const low = bound("from");
    const high = bound("to");
    this.#fields.push((body) => {
      const range = {};
      if (low.value !== "") range.gte = low.valueAsNumber;
      if (high.value !== "") range.lte = high.valueAsNumber;
      if (Object.keys(range).length > 0) body.filter = { ...body.filter, [name]: range };
    });
    return el("div", { class: "field" }, el("span", {}, name), el("span", { class: "pair" }, low, high));
  }

  #limit(attributes) {
    const none = el("option", { value: "" }, "no limit");
    const of = (name) => LIMITS.map((most) => el("option", { value: JSON.stringify([name, most]) }, `${most} of each ${name}`));
    const select = el("select", {}, none, ...attributes.flatMap(({ name }) => of(name)));
    this.#fields.push((body) => {
      if (select.value !== "") body.max_per = Object.fromEntries([JSON.parse(select.value)]);
    });
    return field("At most", select);
  }

  #boost(attributes) {
    const groups = attributes.map(({ name, values }) => {
      const group = el("optgroup", { label: name });
      group.append(...values.map(({ value }) => el("option", { value: JSON.stringify([name, value]) }, value)));
      return group;
    });
    const what = el("select", { "aria-label": "Show more of" }, el("option", { value: "" }, "nothing"), ...groups);
    const levels = Object.entries(BOOSTS).map(([words, by]) => el("option", { value: by }, words.replace("_", " ")));
    const strength = el("select", { "aria-label": "How much more" }, ...levels);
    this.#fields.push((body) => {
      if (what.value === "") return;
      const [name, value] = JSON.parse(what.value);
      body.boost = { [name]: { [value]: Number(strength.value) } };
    });
    return el("div", { class: "field wide" }, el("span", {}, "Show more of"), el("span", { class: "pair" }, what, strength));
  }

  #backfill() {
    const box = el("input", { type: "checkbox" });
    this.#fields.push((body) => {
      if (box.checked) body.backfill = true;
    });
    return el("label", { class: "check" }, box, "Popular items if nothing is left");
  }
}

const option = (value) => el("option", { value }, value);
const field = (words, input) => el("label", { class: "field" }, el("span", {}, words), input);
