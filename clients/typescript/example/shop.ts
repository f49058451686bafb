import { createClient, Recsys } from 'session-recsys-client';
import type { Item, Problem, ScoredItem } from 'session-recsys-client';

const SHOWN = 5;

const client = createClient({ auth: () => input('key').value });
const recsys = new Recsys({ client });

form('service').addEventListener('submit', async (event) => {
  event.preventDefault();
  client.setConfig({ baseUrl: input('address').value });
  const { data, error } = await recsys.search({ query: { limit: SHOWN } });
  if (error) return showProblem(error);
  show('problem', []);
  show('items', data.items.map(button));
});

async function click(item: Item): Promise<void> {
  const { data, error } = await recsys.recommend({
    body: {
      user_id: input('user').value,
      item_id: item.item_id,
      event_id: crypto.randomUUID(),
      k: SHOWN,
      fields: ['name'],
    },
  });
  if (error) return showProblem(error);
  show('problem', []);
  show('list', data.items.map(line));
  element('source').textContent = data.source;
}

function button(item: Item): HTMLElement {
  const made = document.createElement('button');
  made.textContent = item.attributes['name'] ?? item.item_id;
  made.dataset['item'] = item.item_id;
  made.addEventListener('click', () => void click(item));
  return made;
}

function line(item: ScoredItem): HTMLElement {
  const made = document.createElement('li');
  made.textContent = item.attributes?.['name'] ?? item.item_id;
  made.dataset['item'] = item.item_id;
  return made;
}

/** Show why a call failed. If the service did not answer, `error` is what fetch has thrown. */
function showProblem(error: Problem | Error): void {
  if (error instanceof Error) return show('problem', [paragraph(error.message)]);
  const fields = error.errors.map((one) => `${one.field}: ${one.message}`);
  const texts = [`${error.status} ${error.title}`, ...(fields.length ? fields : [error.detail])];
  show('problem', texts.map(paragraph));
}

function paragraph(text: string): HTMLElement {
  const made = document.createElement('p');
  made.textContent = text;
  return made;
}

function show(id: string, parts: HTMLElement[]): void {
  element(id).replaceChildren(...parts);
}

function input(id: string): HTMLInputElement {
  return element(id) as HTMLInputElement;
}

function form(id: string): HTMLFormElement {
  return element(id) as HTMLFormElement;
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element ${id}.`);
  return found;
}
