// Elements out of texts: whatever an item is called, it stays text.

/** An element; attributes that are functions are listeners, children are texts or elements. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Text that is heard and not seen. */
export const heard = (text) => el("span", { class: "sr" }, text);

/** Text that is seen and not heard. */
export const seen = (text) => el("span", { "aria-hidden": "true" }, text);

export const number = (value) => value.toLocaleString("en");

/** Movement is for those who want it. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
