// Elements made of texts, so that names of items never become markup.

/** Create an element. Functions among the attributes are listeners; children are texts or elements. */
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

/** Text for screen readers only. */
export const heard = (text) => el("span", { class: "sr" }, text);

/** Text that screen readers skip. */
export const seen = (text) => el("span", { "aria-hidden": "true" }, text);

export const number = (value) => value.toLocaleString("en");

/** Whether the user allows animations. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
