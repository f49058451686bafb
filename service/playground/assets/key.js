// Dialog for an API key. The dialog does not keep the key; the caller keeps it in memory.

import { byId } from "./dom.js";

/** wrong: message of the service about the previous key, or nothing. */
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
