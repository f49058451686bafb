// Calls of the public API: the list of the visit, and the lists to compare it with.

export const DEEP = 50; // asked for, so that a rank's change is known although fewer are shown
const MOST_CLICKS = 500; // of one request
const ASK = "v1/recommendations";

/** Fields of a click. */
const fieldsOf = ({ itemId, eventId, eventType, listId }) => ({
  item_id: itemId,
  event_id: eventId,
  ...(eventType === null ? {} : { event_type: eventType }),
  ...(listId === null ? {} : { list_id: listId }),
});

/** Fields of a visit that is not stored; the types of its clicks only where one has a type. */
function visitOf(session) {
  const items = session.items.slice(-MOST_CLICKS);
  const types = session.eventTypes.slice(-MOST_CLICKS);
  return types.every((type) => type === null) ? { items } : { items, event_types: types };
}

/**
 * The call for a visit. A click that was just made is recorded and answered in one; a visit of which
 * something is left out is asked about without storing anything. rules: fields of the call.
 */
export function visitCall(session, click, rules) {
  const options = { k: DEEP, ...rules };
  if (click !== null && session.leftOut === 0) {
    return { path: ASK, body: { user_id: session.userId, ...fieldsOf(click), ...options } };
  }
  return { path: ASK, body: { ...visitOf(session), ...options } };
}

/** Forget everything that is stored about this visit. */
export const forgetCall = (session) => `v1/users/${encodeURIComponent(session.userId)}`;

export const stateCall = (session) => ({
  path: "v1/playground/state",
  body: visitOf(session),
});

/** Store clicks; event ids identify those that are stored already. */
export function storeCall(session, clicks) {
  const sent = clicks.slice(-MOST_CLICKS).map(fieldsOf);
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
