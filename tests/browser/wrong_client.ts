// Programs that must not compile. Each line that is wrong ends with the code of its error.
import { createClient, Recsys } from 'session-recsys-client';

const recsys = new Recsys({ client: createClient({ baseUrl: 'http://127.0.0.1:8000' }) });

export async function wrong(): Promise<void> {
  // a misspelled field
  await recsys.recommend({ body: { user_id: 'ada', itm_id: 'aurora-tent' } }); // TS2561
  // a number as text
  await recsys.recommend({ body: { user_id: 'ada', k: '5' } }); // TS2322
  // neither a user nor items
  await recsys.recommend({ body: { k: 5 } }); // TS2322
  // both of them
  await recsys.recommend({ body: { user_id: 'ada', items: ['aurora-tent'] } }); // TS2322
  // an event id without a click
  await recsys.recommend({ body: { user_id: 'ada', event_id: 'e-1' } }); // TS2322
  // a call that there is not
  await recsys.recommended({ body: { user_id: 'ada' } }); // TS2551
  // a path without its user
  await recsys.forget({}); // TS2345
  const { data, error } = await recsys.recommend({ body: { user_id: 'ada' } });
  // an answer that may be a refusal
  data.items; // TS18048
  if (error) {
    // a field that a problem has not
    error.reason; // TS2339
    return;
  }
  // a source that there is not
  if (data.source === 'neighbours') return; // TS2367
  // an attribute that may be absent
  data.items.map((item) => item.attributes['name']); // TS18049
  // this line is right
  data.items.map((item) => item.attributes?.['name']);
}
