// Elements by their id, and new ones. Texts go in by textContent alone: names of files and labels are data.

export const at = (id) => document.getElementById(id);

/** A new element. facts: its properties; names with a dash are attributes. */
export function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Show an element, or hide it. */
export function show(id, shown = true) {
  at(id).hidden = !shown;
}

export const stillWanted = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
