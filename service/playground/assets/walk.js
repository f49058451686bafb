// Automatic visit: clicks the most likely item that was not clicked yet, until it is stopped.

const STEP_MS = 1300;
const STEPS = 6;

export class Walk {
  #left = 0;

  /** next(): returns the item to click, if there is one. */
  constructor(button, next, click) {
    Object.assign(this, { button, next, click });
    button.addEventListener("click", () => (this.#left > 0 ? this.stop() : this.start()));
  }

  async start() {
    if (this.#left > 0) return;
    this.#left = STEPS;
    this.button.textContent = "Stop";
    while (this.#left > 0) {
      this.#left -= 1;
      const itemId = this.next();
      if (itemId === undefined) break;
      await Promise.all([this.click(itemId), new Promise((resolve) => setTimeout(resolve, STEP_MS))]);
    }
    this.stop();
  }

  stop() {
    this.#left = 0;
    this.button.textContent = "Walk on";
  }
}
