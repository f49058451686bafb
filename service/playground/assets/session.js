// Clicks of this visit: all clicks, those left out for a comparison, and those stored.

// randomUUID is there only on https and localhost
const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Session {
  constructor() {
    this.startOver();
  }

  startOver() {
    this.userId = `playground-${newId()}`;
    this.clicks = [];
  }

  /** eventType: null for a click without a type; listId: of the list it was made in, or null. */
  add(itemId, eventType, listId) {
    const click = { itemId, eventType, listId, eventId: newId(), leftOut: false, stored: false };
    this.clicks.push(click);
    return click;
  }

  toggle(click) {
    click.leftOut = !click.leftOut;
  }

  get items() {
    return this.clicks.filter((click) => !click.leftOut).map((click) => click.itemId);
  }

  /** The types of the clicks on `items`, one for each. */
  get eventTypes() {
    return this.clicks.filter((click) => !click.leftOut).map((click) => click.eventType);
  }

  get leftOut() {
    return this.clicks.filter((click) => click.leftOut).length;
  }

  get last() {
    return this.items.at(-1);
  }

  has(itemId) {
    return this.clicks.some((click) => click.itemId === itemId && !click.leftOut);
  }

  get unstored() {
    return this.clicks.filter((click) => !click.stored);
  }
}
