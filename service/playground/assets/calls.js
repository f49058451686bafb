// Calls of the public API: the list of the visit, and the lists to compare it with.

export const DEEP = 50; // asked for, so that a rank's change is known although fewer are shown
const MOST_CLICKS = 500; // of one request
const ASK = "v1/recommendations";

/**
 * The call for a visit. A click that was just made is recorded and answered in one; a visit of which
 * something is left out is asked about without storing anything. rules: fields of the call.
 */
export function visitCall(session, click, rules) {
  const options = { k: DEEP, ...rules };
  if (click !== null && session.leftOut === 0) {
    const { itemId, eventId } = click;
    return { path: ASK, body: { user_id: session.userId, item_id: itemId, event_id: eventId, ...options } };
  }
  return { path: ASK, body: { items: session.items.slice(-MOST_CLICKS), ...options } };
}

/** Forget everything that is stored about this visit. */
export const forgetCall = (session) => `v1/users/${encodeURIComponent(session.userId)}`;

export const stateCall = (session) => ({
  path: "v1/playground/state",
  body: { items: session.items.slice(-MOST_CLICKS) },
});

/** Store clicks; event ids identify those that are stored already. */
export function storeCall(session, clicks) {
  const sent = clicks.slice(-MOST_CLICKS).map(({ itemId, eventId }) => ({ item_id: itemId, event_id: eventId }));
  return { path: `v1/users/${encodeURIComponent(session.userId)}/clicks`, body: { clicks: sent } };
}

/** The most popular items, one of each value of an attribute, if there is one. */
export const popularCall = (kind, k) => ({
  path: ASK,
  body: { items: [], k, ...(kind === null ? {} : { max_per: { [kind.name]: 1 } }) },
});

/** sees(session): what an answer depends on beside model and rules; undefined: nothing to answer. */
export const BASELINES = [
  {
    name: "Most popular",
    words: "The most clicked items of all, the same for every visitor.",
    sees: () => null,
    ask: (api, session, rules) => api.post(ASK, { items: [], k: DEEP, ...rules }),
  },
  {
    name: "Last click alone",
    words: "The same model, which knows only the last click.",
    sees: (session) => session.last,
    ask: (api, session, rules) => api.post(ASK, { items: [session.last], k: DEEP, ...rules }),
  },
  {
    name: "Similar items",
    words: "Items in similar contexts as the last click: nearest by the cosine of their vectors.",
    sees: (session) => session.last,
    ask: (api, session, rules) => api.post("v1/items:similar", { item_id: session.last, k: DEEP, ...rules }),
  },
];
