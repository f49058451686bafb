// Shows on the page that Redis or the service is down, and detects that it is back.

import { byId } from "./dom.js";

const CALM_MS = 4000;
const WORRIED_MS = 1000;
const PATIENCE_MS = 3000;
const GLAD_MS = 4000;
const WORDS = {
  redis:
    "Redis does not answer. Each answer uses only the last click. " +
    "Nothing is lost here: the visit is stored when Redis is back.",
  unreachable: "The service does not answer. The page tries again every second.",
};
const BACK = {
  redis: "Redis is back, and the whole visit is stored again.",
  unreachable: "The service is back.",
};

export class Health {
  #now = "ok";
  #timer = null;
  #gladUntil = null;
  #looking = null;

  /** recovered(): awaited before the page reports the recovery. */
  constructor(api, recovered) {
    this.api = api;
    this.recovered = recovered;
    this.banner = byId("banner");
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    this.#wait();
  }

  get ok() {
    return this.#now === "ok";
  }

  /** Check now, also after a failed call. */
  look() {
    this.#looking ??= this.#look().finally(() => (this.#looking = null));
    return this.#looking;
  }

  async #look() {
    clearTimeout(this.#timer);
    const found = await this.#ask();
    const before = this.#now;
    this.#now = found;
    if (found !== "ok" && found !== before) this.#show(WORDS[found], "bad");
    if (found === "ok" && before !== "ok") await this.#welcome(before);
    this.#wait();
  }

  /** Show a refusal until the next message. */
  complain(words) {
    this.#show(words, "bad");
  }

  /** Show that the rate limit refused a call, which is repeated after so many seconds. */
  limited(seconds) {
    const after = seconds <= 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} minutes`;
    this.complain(`The service limits how often this page may ask. It asks again in ${after}.`);
  }

  /** Remove the message. */
  calm() {
    if (this.ok && this.banner.classList.contains("bad")) this.banner.hidden = true;
  }

  async #welcome(before) {
    try {
      await this.recovered();
    } catch {
      this.#now = before; // not quite
      return;
    }
    this.#show(BACK[before], "good");
    clearTimeout(this.#gladUntil);
    this.#gladUntil = setTimeout(() => {
      if (this.ok) this.banner.hidden = true;
    }, GLAD_MS);
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.look(), this.ok ? CALM_MS : WORRIED_MS);
  }

  async #ask() {
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const answer = await fetch(this.api.url("health/ready"), { signal, cache: "no-store" });
      if (!answer.ok) return "unreachable";
      return (await answer.json()).redis === "ok" ? "ok" : "redis";
    } catch {
      return "unreachable";
    }
  }

  #show(words, mood) {
    this.banner.className = `banner ${mood}`;
    this.banner.textContent = words;
    this.banner.hidden = false;
  }
}
