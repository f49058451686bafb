// Hidden state as a row of bars, animated from the old values to the new ones.

import { byId, number, still } from "./dom.js";

const MOVE_MS = 520;
const HEIGHT = 96;

export class State {
  #now = [];
  #from = [];
  #to = [];
  #before = []; // where a mark stays behind
  #began = 0;
  #frame = null;
  #peak = 0.3; // the largest number so far fills the height, so that changes can be compared

  constructor() {
    this.canvas = byId("state");
    this.words = byId("state-words");
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** units: output of the top layer, numbers between about -1 and 1. */
  show(units, clicks) {
    const before = this.#to.length === units.length ? this.#to : units.map(() => 0);
    this.#from = this.#now.length === units.length ? [...this.#now] : before;
    this.#to = units;
    this.#before = clicks > 0 ? before : [];
    this.#peak = Math.max(this.#peak, ...units.map(Math.abs));
    this.#say(before, units, clicks);
    this.#began = performance.now();
    cancelAnimationFrame(this.#frame);
    this.#step(this.#began);
  }

  startOver() {
    this.show(this.#to.map(() => 0), 0);
  }

  #say(before, units, clicks) {
    const length = (numbers) => Math.hypot(...numbers);
    const moved = length(units.map((unit, at) => unit - before[at]));
    const percent = Math.round((100 * moved) / (Math.max(length(units), length(before)) || 1));
    const said = `${number(units.length)} numbers hold all that the model remembers of ${clicks === 1 ? "this click" : `these ${clicks} clicks`}.`;
    const change = `The last change moved them by ${percent} %, from where the thin marks are.`;
    this.words.textContent = clicks === 0 ? "" : `${said} ${change}`;
    this.canvas.setAttribute("aria-label", `Hidden state as bars. ${said} ${change}`);
    this.canvas.dataset.moved = String(percent);
  }

  #step(time) {
    const done = still() ? 1 : Math.min(Math.max((time - this.#began) / MOVE_MS, 0), 1);
    const eased = 1 - (1 - done) ** 3;
    this.#now = this.#to.map((to, at) => this.#from[at] + (to - this.#from[at]) * eased);
    this.#draw();
    if (done < 1) this.#frame = requestAnimationFrame((later) => this.#step(later));
  }

  #draw() {
    const { canvas } = this;
    const width = canvas.clientWidth;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(HEIGHT * scale);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [up, down, line, mark] = ["--plus", "--minus", "--line", "--soft"].map((name) => style.getPropertyValue(name));
    pen.scale(scale, scale);
    pen.fillStyle = line;
    pen.fillRect(0, HEIGHT / 2 - 0.5, width, 1);
    const each = width / (this.#now.length || 1);
    const thick = Math.max(each - Math.min(2, each / 3), 0.5);
    this.#now.forEach((value, at) => {
      const high = this.#high(value);
      pen.fillStyle = value < 0 ? down : up;
      pen.beginPath();
      pen.roundRect(at * each, value < 0 ? HEIGHT / 2 : HEIGHT / 2 - high, thick, Math.max(high, 0.5), Math.min(thick / 2, 2));
      pen.fill();
    });
    pen.fillStyle = mark;
    this.#before.forEach((value, at) => {
      pen.fillRect(at * each, HEIGHT / 2 - Math.sign(value) * this.#high(value) - 0.75, thick, 1.5);
    });
  }

  #high(value) {
    return (Math.abs(value) / this.#peak) ** 0.7 * (HEIGHT / 2 - 2);
  }
}
