// Dialog for a key. The dialog does not keep the key; the caller keeps it in memory.

import { CATALOGUE } from "./api.js";
import { byId } from "./dom.js";

const TITLES = { service: "This service asks for a key", catalogue: "Changes of items need a key" };
const LABELS = { service: "API key", catalogue: "Catalogue key" };
const KEPT = "The page keeps it in memory only, until it is closed or loaded again.";

/**
 * Return a key, or null if the dialog was cancelled: nothing works without the key of the service,
 * so only the dialog for another key can be.
 *
 * wrong: message of the service about the previous key, or nothing; part: what the key is for.
 */
export function askForKey(wrong, part) {
  const dialog = byId("key");
  const text = byId("key-text");
  const form = dialog.querySelector("form");
  const mayCancel = part === CATALOGUE;
  byId("key-title").textContent = TITLES[part];
  byId("key-label").textContent = LABELS[part];
  byId("key-words").textContent = wrong || KEPT;
  byId("key-cancel").hidden = !mayCancel;
  return new Promise((resolve) => {
    const over = new AbortController();
    const { signal } = over;
    const end = (key) => {
      over.abort();
      text.value = "";
      dialog.close();
      resolve(key);
    };
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        const key = text.value.trim();
        if (key) end(key);
      },
      { signal },
    );
    dialog.addEventListener(
      "cancel",
      (event) => {
        event.preventDefault();
        if (mayCancel) end(null);
      },
      { signal },
    );
    byId("key-cancel").addEventListener("click", () => end(null), { signal });
    if (!dialog.open) dialog.showModal();
  });
}
