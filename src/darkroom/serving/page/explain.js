// The heat map: which pixels speak for the answer, as a layer over the image that the model saw.

import { element } from "./dom.js";

let on = false;
let asked = false; // whether the switch was turned on, and the answer with a heat map is on its way
let again = () => {};

export const isOn = () => on;

// `ask` asks about the picture once more.
export function listen(ask) {
  again = ask;
}

// Adds the heat map and its switch to the figure of the image that the model saw.
export function addTo(figure, found) {
  const image = figure.querySelector("img");
  const frame = element("div", { className: "heated" });
  image.replaceWith(frame);
  frame.append(image);
  const { heat, problem } = found.explanation ?? {};
  if (heat) frame.append(element("img", { src: heat, alt: `Heat map: where it speaks for ${found.label}`, className: "heat" }));
  const button = element("button", { type: "button", className: "heat-switch", textContent: "Heat map" });
  const line = element("span", { className: "heat-line", textContent: problem ?? `What speaks for ${found.label}: red the most.` });
  const lay = () => {
    button.setAttribute("aria-pressed", on);
    frame.classList.toggle("on", on && Boolean(heat));
    line.hidden = !(on && (heat || problem));
  };
  button.addEventListener("click", () => {
    on = !on;
    asked = on && !heat;
    lay();
    if (asked) again();
  });
  lay();
  figure.querySelector("figcaption").append(button, line);
  // The switch that was pressed is gone with the answer before.
  if (asked) queueMicrotask(() => button.focus());
  asked = false;
  return figure;
}
