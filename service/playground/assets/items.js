// Items of the service, each requested once, and their names on this page.

const NAMES = ["name", "title", "product_name", "item_name", "label"];
const KINDS = ["category", "kind", "type", "genre", "department", "brand"];
const MOST_AT_ONCE = 100;
const FEW = 60; // values that buttons can show

/** Return the first of these words that is an attribute, in any case. */
const among = (names, words) =>
  words.map((word) => names.find((name) => name.toLowerCase() === word)).find(Boolean) ?? null;

export class Items {
  #known = new Map();

  constructor(api) {
    this.api = api;
    this.kind = null; // the attribute to browse by, with its values
    this.nameOf = null; // the attribute that names items
  }

  /** Find the attribute that names items and the one that groups them, if they exist. */
  async look() {
    const { attributes } = await this.api.get("v1/attributes");
    const names = attributes.map((attribute) => attribute.name);
    this.nameOf = among(names, NAMES);
    const few = attributes.filter(({ name, distinct }) => name !== this.nameOf && distinct > 1 && distinct <= FEW);
    const usual = among(few.map(({ name }) => name), KINDS);
    this.kind = few.find(({ name }) => name === usual) ?? few[0] ?? null;
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

  /** Return the other attributes of an item. */
  about(itemId) {
    const kind = this.kind && this.#attribute(itemId, this.kind.name);
    const id = this.title(itemId) === itemId ? null : itemId;
    return [kind, id].filter(Boolean).join(" · ");
  }

  #attribute(itemId, name) {
    return (name !== null && this.#known.get(itemId)?.attributes[name]) || null;
  }

  /** Forget all items, because another model may have others. */
  forget() {
    this.#known.clear();
  }
}
