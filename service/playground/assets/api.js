// Calls to the service of this page, with keys, rate limits and problems.

/** Refusal by the service, with problem details of RFC 9457. */
export class Refused extends Error {
  constructor(problem, retryAfter) {
    super(problem.detail);
    this.status = problem.status;
    this.requestId = problem.request_id;
    this.retryAfter = retryAfter; // seconds
  }
}

/** The service did not answer. */
export class Unreachable extends Error {}

const TIMEOUT_MS = 15000;
const SERVICE = "service";
export const CATALOGUE = "catalogue";

export class Api {
  #keys = new Map(); // part of the API → key, in memory alone: not in the address or any storage
  #asking = null;
  #limited = 0; // calls that wait until the rate limit lets them through

  /**
   * askForKey(wrong, part): gives a key that a person typed, or null; wrong: about the last one.
   * waits(seconds): a call was refused by the rate limit and is sent again then;
   * goesOn(): no call waits any more.
   */
  constructor(base, askForKey, { waits, goesOn }) {
    Object.assign(this, { base, askForKey, waits, goesOn });
  }

  get keyed() {
    return this.#keys.has(SERVICE);
  }

  url(path) {
    return new URL(path, this.base).href;
  }

  get(path, signal) {
    return this.#call(path, { method: "GET", signal });
  }

  post(path, body) {
    const headers = { "Content-Type": "application/json" };
    return this.#call(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  delete(path) {
    return this.#call(path, { method: "DELETE" });
  }

  /** Change items, by a key of the catalogue. */
  put(path, body) {
    const headers = { "Content-Type": "application/json" };
    return this.#call(path, { method: "PUT", headers, body: JSON.stringify(body) }, CATALOGUE);
  }

  async #call(path, request, part = SERVICE) {
    let limited = false;
    try {
      for (;;) {
        const key = this.#keys.get(part) ?? null;
        try {
          return await this.#once(path, request, key);
        } catch (failed) {
          const status = failed instanceof Refused ? failed.status : null;
          if (status === 429) {
            if (!limited) this.#limited += 1;
            limited = true;
            this.waits(failed.retryAfter);
            await pause(failed.retryAfter, request.signal);
          } else if (status === 401 || status === 403) {
            const latest = this.#keys.get(part) ?? null;
            if (key === latest) await this.#askOnce(key === null ? "" : failed.message, part);
          } else throw failed;
        }
      }
    } finally {
      if (limited && --this.#limited === 0) this.goesOn();
    }
  }

  /** Ask for a key once, even if several calls are refused at the same time. */
  #askOnce(wrong, part) {
    this.#asking ??= this.askForKey(wrong, part)
      .then((key) => {
        if (key === null) throw new Refused({ status: 401, detail: "Nothing was changed." }, 0);
        this.#keys.set(part, key);
      })
      .finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #once(path, request, key) {
    const headers = { ...request.headers };
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    const patience = AbortSignal.timeout(TIMEOUT_MS);
    const signal = request.signal ? AbortSignal.any([request.signal, patience]) : patience;
    let answer, said;
    try {
      const options = { ...request, headers, signal, credentials: "omit", cache: "no-store" };
      answer = await fetch(this.url(path), options);
      said = answer.status === 204 ? null : await answer.json();
    } catch (failed) {
      if (request.signal?.aborted) throw failed;
      throw new Unreachable(`The service does not answer (${failed.message}).`);
    }
    if (answer.ok) return said;
    throw new Refused(said, Number(answer.headers.get("Retry-After") ?? 1));
  }
}

/** Resolves after so many seconds, rejects when the signal is aborted before. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
