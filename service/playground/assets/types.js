// Choice of the event type of the next clicks, where the model distinguishes types.

import { byId, el } from "./dom.js";

export class Types {
  /** offer(names): the types that the model knows, the default first. */
  offer(names) {
    const chosen = this.chosen;
    byId("event-type").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (names.includes(chosen)) byId("event-type").value = chosen;
    byId("event-type-choice").hidden = names.length === 0;
  }

  /** The type of the next click; null where clicks have no type. */
  get chosen() {
    return byId("event-type").value || null;
  }
}
