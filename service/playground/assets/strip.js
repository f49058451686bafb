// Row of the clicks of the visit. Each click can be left out and put back.

import { byId, el, heard, seen } from "./dom.js";

export class Strip {
  #chips = new Map(); // click → its element, which stays while the visit lasts

  /** toggle(click): leaves a click out or puts it back. */
  constructor(session, items, toggle) {
    Object.assign(this, { session, items, toggle });
    this.list = byId("clicks");
  }

  show() {
    const { clicks } = this.session;
    this.#swap(clicks.length > 0);
    for (const [click, chip] of this.#chips) {
      if (clicks.includes(click)) continue;
      chip.remove();
      this.#chips.delete(click);
    }
    for (const [at, click] of clicks.entries()) {
      if (!this.#chips.has(click)) this.#add(click, at + 1);
      this.#update(click, this.#chips.get(click));
    }
  }

  /** Replace the introduction by the visit and move the keyboard focus to it. */
  #swap(begun) {
    const intro = byId("intro");
    const left = begun && intro.contains(document.activeElement);
    intro.hidden = begun;
    byId("strip").hidden = !begun;
    if (left) byId("next").focus({ preventScroll: true });
  }

  #add(click, place) {
    const title = this.items.title(click.itemId);
    const leave = el(
      "button",
      { type: "button", class: "leave", click: () => this.toggle(click) },
      seen(""),
      heard(`What if ${title} had not been clicked?`),
    );
    const name = el("span", { class: "name", dir: "auto" }, title);
    const picture = this.items.picture(click.itemId);
    const chip = el("li", { class: "chip" }, el("span", { class: "rank" }, String(place)), picture, name, leave);
    this.#chips.set(click, chip);
    this.list.append(chip);
    this.list.scrollLeft = this.list.scrollWidth;
  }

  #update(click, chip) {
    chip.classList.toggle("out", click.leftOut);
    chip.classList.toggle("waiting", !click.stored);
    const leave = chip.querySelector("button");
    leave.setAttribute("aria-pressed", click.leftOut);
    leave.title = click.leftOut ? "Put it back" : "What if this had not been clicked?";
    leave.firstChild.textContent = click.leftOut ? "+" : "×";
  }
}
