// Facts of the bundle: the model that answers, and its metrics on visits outside the training data.

import { byId, el, number } from "./dom.js";

const MEASURE = "recall@20";

export class Facts {
  modelId = null;
  #answer = null; // the last one
  #served = new Set(); // ids of all models: in an experiment, variants answer some users

  constructor(api, types) {
    Object.assign(this, { api, types });
  }

  async show() {
    const model = await this.api.get("v1/model");
    this.modelId = model.model_id;
    const variants = Object.values(model.experiment?.variants ?? {});
    this.#served = new Set([model.model_id, ...variants.map((variant) => variant.model_id)]);
    this.hidden = model.hidden;
    this.types.offer(model.event_types);
    byId("how-many").textContent = `all ${number(model.items)}`;
    const layers = model.layers === 1 ? "" : `${model.layers} × `;
    byId("model").replaceChildren(
      el("span", { class: "dot", "aria-hidden": "true" }),
      el("span", { class: "word" }, "model"),
      el("code", { id: "answered-by" }, model.model_id),
      el("span", { id: "variant", class: "variant", hidden: true }),
      el("span", { class: "more" }, `${layers}${number(model.hidden)} units, ${number(model.items)} items`),
    );
    this.#showAnswer();
    this.#measured(model.metrics);
  }

  /** Show which model answered; return whether it is known: one that is not has taken over. */
  answered(answer) {
    this.#answer = answer;
    this.#showAnswer();
    return this.#served.has(answer.model_id);
  }

  /** In an experiment, show the variant that answered, too. */
  #showAnswer() {
    if (this.#answer === null) return;
    const { model_id: modelId, variant } = this.#answer;
    byId("answered-by").textContent = modelId;
    byId("variant").hidden = variant === undefined;
    byId("variant").textContent = `variant ${variant}`;
  }

  #measured({ model, baselines }) {
    const own = model?.[MEASURE];
    byId("facts").hidden = own === undefined;
    if (own === undefined) return;
    const others = Object.entries(baselines ?? {}).map(([name, figures]) => [name, figures?.[MEASURE]]);
    const rows = [["this model", own], ...others.filter(([, value]) => typeof value === "number")];
    rows.sort(([, one], [, other]) => other - one);
    byId("facts").replaceChildren(
      el("h2", { id: "facts-title" }, "How often is it right?"),
      el("p", { class: "small" }, "In visits outside the training data, the next click was among the first 20:"),
      el("table", {}, el("tbody", {}, ...rows.map((row) => this.#row(...row)))),
    );
  }

  #row(name, value) {
    const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
    bar.firstChild.style.transform = `scaleX(${Math.max(value, 0.005).toFixed(4)})`;
    const own = name === "this model";
    return el(
      "tr",
      own ? { class: "own" } : {},
      el("th", { scope: "row" }, name),
      el("td", {}, bar, el("span", {}, `${(100 * value).toFixed(1)} %`)),
    );
  }
}
