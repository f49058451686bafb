// Asks a person for an API key. The dialog forgets it at once; the caller keeps it in memory.

import { byId } from "./dom.js";

/** wrong: what the service said of the key before, or nothing. */
export function askForKey(wrong) {
  const dialog = byId("key");
  const text = byId("key-text");
  if (wrong) byId("key-words").textContent = wrong;
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // nothing works without
  return new Promise((resolve) => {
    const taken = (event) => {
      event.preventDefault();
      const key = text.value.trim();
      if (!key) return;
      text.value = "";
      dialog.querySelector("form").removeEventListener("submit", taken);
      dialog.close();
      resolve(key);
    };
    dialog.querySelector("form").addEventListener("submit", taken);
    if (!dialog.open) dialog.showModal();
  });
}
