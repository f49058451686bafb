// A ranked list whose rows move to their new places; each row is a button that clicks its item.

import { el, heard, seen, still } from "./dom.js";

const MOVE_MS = 420;
const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });
const ENDING = { one: "st", two: "nd", few: "rd", other: "th" }; // codespell:ignore nd
export const nth = (rank) => `${rank}${ENDING[ORDINALS.select(rank)]}`;

export class Ranking {
  #ranks = null; // item id → rank in the answer before

  /** shown: number of rows; note(itemId, rank, before): returns the note of a row. */
  constructor(list, items, { shown, click, note }) {
    Object.assign(this, { list, items, shown, click, note });
  }

  /** scored: [{item_id, score}], longer than the list shown; marked(itemId): was clicked. */
  show(scored, marked) {
    const places = this.#places();
    const focused = [...this.list.children].findIndex((row) => row.contains(document.activeElement));
    const before = this.#ranks;
    const lowest = scored.at(-1)?.score ?? 0;
    const range = (scored[0]?.score ?? 0) - lowest || 1;
    const rows = scored.slice(0, this.shown).map(({ item_id: itemId, score }, at) => {
      const share = Math.max((score - lowest) / range, 0.02);
      return this.#row(itemId, at + 1, score, share, marked(itemId), before);
    });
    this.#ranks = new Map(scored.map(({ item_id: itemId }, at) => [itemId, at + 1]));
    this.list.replaceChildren(...rows);
    if (focused >= 0) (rows[focused] ?? rows.at(-1))?.firstChild.focus({ preventScroll: true });
    this.#move(places);
  }

  rank(itemId) {
    return this.#ranks?.get(itemId) ?? null;
  }

  get shownItems() {
    return [...this.list.children].map((row) => row.dataset.item);
  }

  /** Update the notes of the rows. */
  renote(marked) {
    [...this.list.children].forEach((row, at) => {
      const itemId = row.dataset.item;
      for (const note of row.querySelectorAll(".more .note")) note.remove();
      row.querySelector(".more").append(...below(this.note(itemId, at + 1, this.#ranks), marked(itemId)));
    });
  }

  startOver() {
    this.#ranks = null;
  }

  #row(itemId, rank, score, share, clicked, before) {
    const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
    bar.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
    const note = this.note(itemId, rank, before);
    const button = el(
      "button",
      { type: "button", class: "row", click: () => this.click(itemId) },
      el("span", { class: "rank" }, String(rank), heard(". ")),
      el(
        "span",
        { class: "what" },
        el("span", { class: "name", dir: "auto" }, this.items.title(itemId)),
        el(
          "span",
          { class: "more" },
          el("span", { class: "about", dir: "auto" }, this.items.about(itemId)),
          ...below(note, clicked),
        ),
      ),
      isChange(note) ? note : null,
      el("span", { class: "score" }, heard("score "), score.toFixed(Math.abs(score) < 2 ? 3 : 2), bar),
    );
    const row = el("li", {}, button);
    row.dataset.item = itemId;
    return row;
  }

  #places() {
    const tops = [...this.list.children].map((row) => [row.dataset.item, row.offsetTop]);
    return new Map(tops);
  }

  /** Animate each row from its old position to its new one. */
  #move(places) {
    if (still() || places.size === 0) return;
    const now = [...this.list.children].map((row) => [row, row.offsetTop]);
    for (const [row, top] of now) {
      const was = places.get(row.dataset.item);
      const from =
        was === undefined
          ? { opacity: 0, transform: "translateX(14px)" }
          : { transform: `translateY(${was - top}px)` };
      if (was !== top) row.animate([from, {}], { duration: MOVE_MS, easing: "cubic-bezier(.2,.8,.2,1)" });
    }
  }
}

/** Show the change of rank beside a row, or words in its second line. */
const isChange = (note) => note !== null && !note.classList.contains("also");

function below(note, clicked) {
  if (note !== null && !isChange(note)) return [note];
  return clicked ? [el("span", { class: "note been" }, "clicked")] : [];
}

/** Describe the change of a rank since the last answer. */
export function change(itemId, rank, before) {
  if (before === null) return null;
  const was = before.get(itemId);
  if (was === undefined) return el("span", { class: "note new" }, "new");
  if (was === rank) return el("span", { class: "note same" }, seen("="), heard("same rank"));
  const up = was > rank;
  const by = Math.abs(was - rank);
  return el(
    "span",
    { class: `note ${up ? "up" : "down"}`, title: `was ${nth(was)}` },
    seen(`${up ? "↑" : "↓"} ${by}`),
    heard(`${up ? "up" : "down"} ${by}`),
  );
}
