// Makes elements. Text goes in as text: no code on this page parses HTML.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick" || key === "oninput" || key === "onchange") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function vector(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Sets an element's text, if the text differs. */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** Sets an attribute, if the value differs; null removes it. */
export function set(where, name, value) {
  if (value === null) where.removeAttribute(name);
  else if (where.getAttribute(name) !== String(value)) where.setAttribute(name, value);
}
