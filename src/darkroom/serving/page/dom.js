// Building the page. Text is always set as text, so no name from the server can become markup.

export const find = (id) => document.getElementById(id);

// An element with properties and children. `style` sets CSS variables; `attributes` sets data and ARIA attributes by name.
export function element(tag, { style = {}, attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Images of so few pixels a side are shown as squares of color. Larger ones are photographs: smooth, and given more room.
const FEW_PIXELS = 64;

export function showAsItIs(image) {
  image.addEventListener("load", () => {
    const few = Math.max(image.naturalWidth, image.naturalHeight) <= FEW_PIXELS;
    image.classList.toggle("pixels", few);
    image.classList.toggle("photograph", !few);
  });
  return image;
}

// A share that is not exactly 0 or 1 is never shown as 0 % or 100 %.
export function percent(share, digits = 1) {
  const least = 10 ** -digits / 2;
  if (share > 0 && 100 * share < least) return `< ${(2 * least).toFixed(digits)} %`;
  if (share < 1 && 100 * share >= 100 - least) return `> ${(100 - 2 * least).toFixed(digits)} %`;
  return `${(100 * share).toFixed(digits)} %`;
}

export function moment(iso) {
  const when = new Date(iso);
  const text = when.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return element("time", { dateTime: iso, textContent: text });
}
