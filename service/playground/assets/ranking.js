// A ranked list whose rows move to their new places; each row clicks its item.

import { el, heard, seen, still } from "./dom.js";
import { itemRow } from "./row.js";

const MOVE_MS = 420;
const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });
const ENDING = { one: "st", two: "nd", few: "rd", other: "th" }; // codespell:ignore nd
export const nth = (rank) => `${rank}${ENDING[ORDINALS.select(rank)]}`;

/** Write a score with the digits that tell scores apart. */
export const scoreText = (score) => score.toFixed(Math.abs(score) < 2 ? 3 : 2);

export class Ranking {
  #ranks = null; // item id → rank in the answer before
  #scores = new Map(); // item id → score in this answer

  /** shown: number of rows; note(itemId, rank, before): note of a row; actions: of its buttons. */
  constructor(list, items, { shown, actions, note }) {
    Object.assign(this, { list, items, shown, actions, note });
  }

  /** scored: [{item_id, score}], longer than the list shown; mark(itemId): word about it, or null. */
  show(scored, mark) {
    const places = this.#places();
    const focused = [...this.list.children].findIndex((row) => row.contains(document.activeElement));
    const before = this.#ranks;
    this.#scores = new Map(scored.map(({ item_id: itemId, score }) => [itemId, score]));
    const lowest = Math.min(...this.#scores.values());
    const range = Math.max(...this.#scores.values()) - lowest || 1;
    const rows = scored.slice(0, this.shown).map(({ item_id: itemId, score }, at) => {
      const share = Math.max((score - lowest) / range, 0.02);
      return this.#row(itemId, at + 1, score, share, mark(itemId), before);
    });
    this.#ranks = new Map(scored.map(({ item_id: itemId }, at) => [itemId, at + 1]));
    this.list.replaceChildren(...rows);
    if (focused >= 0) (rows[focused] ?? rows.at(-1))?.firstChild.focus({ preventScroll: true });
    this.#move(places);
  }

  rank(itemId) {
    return this.#ranks?.get(itemId) ?? null;
  }

  score(itemId) {
    return this.#scores.get(itemId) ?? null;
  }

  get shownItems() {
    return [...this.list.children].map((row) => row.dataset.item);
  }

  /** Update the notes of the rows. */
  renote(mark) {
    [...this.list.children].forEach((row, at) => {
      const itemId = row.dataset.item;
      for (const note of row.querySelectorAll(".more .note")) note.remove();
      row.querySelector(".more").append(...below(this.note(itemId, at + 1, this.#ranks), mark(itemId)));
    });
  }

  startOver() {
    this.#ranks = null;
  }

  #row(itemId, rank, score, share, word, before) {
    const bar = el("span", { class: "bar" }, el("span"));
    bar.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
    const note = this.note(itemId, rank, before);
    return itemRow(this.items, itemId, this.actions, {
      lead: el("span", { class: "rank" }, String(rank), heard(". ")),
      notes: below(note, word),
      tail: [
        isChange(note) ? note : null,
        el("span", { class: "score", "aria-hidden": "true", title: `score ${scoreText(score)}` }, bar),
      ],
    });
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

function below(note, word) {
  if (note !== null && !isChange(note)) return [note];
  return word === null ? [] : [el("span", { class: "note been" }, word)];
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
