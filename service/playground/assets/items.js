// Items of the service, each requested once, and how this page shows them.

import { el } from "./dom.js";

const NAMES = ["name", "title", "product_name", "item_name", "label"];
const KINDS = ["category", "kind", "type", "genre", "department", "brand"];
const PRICES = ["price", "unit_price", "sale_price"];
const PICTURES = ["image", "picture", "image_url", "photo", "thumbnail"];
const DECIMALS = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
const MOST_AT_ONCE = 100;
const FEW = 60; // values that buttons can show

/** Return the first of these words that is an attribute, in any case. */
const among = (names, words) =>
  words.map((word) => names.find((name) => name.toLowerCase() === word)).find(Boolean) ?? null;

const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));

export class Items {
  #known = new Map();

  constructor(api) {
    this.api = api;
    this.kind = null; // the attribute to browse by, with its values
    this.few = []; // attributes with few values, and these
    this.numbers = []; // names of attributes whose values are numbers
    this.nameOf = null; // the attribute that names items
    this.priceOf = null;
    this.pictureOf = null;
  }

  /** Find the attributes that name, group, price and show items, if they exist. */
  async look() {
    const { attributes } = await this.api.get("v1/attributes");
    const names = attributes.map((attribute) => attribute.name);
    this.nameOf = among(names, NAMES);
    this.priceOf = among(names, PRICES);
    this.pictureOf = among(names, PICTURES);
    const apart = [this.nameOf, this.pictureOf];
    const useful = attributes.filter(({ name, values }) => !apart.includes(name) && values.length > 1);
    const numeric = useful.filter(({ values }) => values.every(({ value }) => isNumber(value)));
    this.numbers = numeric.map(({ name }) => name);
    this.few = useful.filter((attribute) => attribute.distinct <= FEW && !numeric.includes(attribute));
    const usual = among(this.few.map(({ name }) => name), KINDS);
    this.kind = this.few.find(({ name }) => name === usual) ?? this.few[0] ?? null;
  }

  keep(items) {
    for (const item of items) this.#known.set(item.item_id, item);
  }

  /** Load all of these items. */
  async know(itemIds) {
    const missing = [...new Set(itemIds)].filter((itemId) => !this.#known.has(itemId));
    for (let at = 0; at < missing.length; at += MOST_AT_ONCE) {
      const some = missing.slice(at, at + MOST_AT_ONCE);
      const found = await this.api.post("v1/items:lookup", { item_ids: some });
      this.keep(found.items);
      for (const itemId of found.unknown_items) this.#known.set(itemId, null);
    }
  }

  title(itemId) {
    return this.#attribute(itemId, this.nameOf) ?? itemId;
  }

  /** Return the kind of an item, or its id where it has no kind and no price. */
  about(itemId) {
    const kind = this.kind && this.#attribute(itemId, this.kind.name);
    return kind ?? (this.priceOf || this.title(itemId) === itemId ? "" : itemId);
  }

  /** Return the price with two decimals, or null. */
  price(itemId) {
    const text = this.#attribute(itemId, this.priceOf);
    if (text === null) return null;
    const shown = isNumber(text) ? Number(text).toLocaleString("en", DECIMALS) : text;
    return el("span", { class: "price" }, shown);
  }

  /** Return the picture of an item, an empty tile where it has none, or null where no item has one. */
  picture(itemId) {
    if (this.pictureOf === null) return null;
    const text = this.#attribute(itemId, this.pictureOf);
    if (text === null || !mayLoad(text)) return el("span", { class: "picture", "aria-hidden": "true" });
    return el("img", { class: "picture", src: text, alt: "", width: 40, height: 40, loading: "lazy" });
  }

  /** Return [name, text] of all attributes but name and picture, the id first. */
  facts(itemId) {
    const attributes = Object.entries(this.#known.get(itemId)?.attributes ?? {});
    const apart = [this.nameOf, this.pictureOf];
    return [["item id", itemId], ...attributes.filter(([name]) => !apart.includes(name))];
  }

  #attribute(itemId, name) {
    return (name !== null && this.#known.get(itemId)?.attributes[name]) || null;
  }

  /** Forget all items, because another model may have others. */
  forget() {
    this.#known.clear();
  }
}

/** Return whether the policy of the page allows this picture: as data, or of this service. */
function mayLoad(text) {
  if (!URL.canParse(text, document.baseURI)) return false;
  const { protocol, origin } = new URL(text, document.baseURI);
  return protocol === "data:" ? text.startsWith("data:image/") : origin === location.origin;
}
