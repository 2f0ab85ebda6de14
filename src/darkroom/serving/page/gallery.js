// Images of the test split to try. One of them is in the tab order; the arrow keys move between them.

import { element, find, showAsItIs } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function decoded(address) {
  const [head, content] = address.split(",");
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: head.slice("data:".length).split(";")[0] });
}

function tile({ image, actual, predicted }, position, take) {
  const right = actual === predicted;
  const made = element(
    "button",
    { type: "button", className: right ? "tile" : "tile wrong", tabIndex: position ? -1 : 0 },
    showAsItIs(element("img", { src: image, alt: "" })),
    element("span", { className: "hidden", textContent: "Test image labeled " }),
    element("span", { className: "tile-label", textContent: actual, title: actual }),
    element("span", { className: "hidden", textContent: right ? "" : " mistaken for " }),
    element("span", { className: "tile-answer", textContent: right ? "\u00a0" : `→ ${predicted}`, title: right ? "" : `mistaken for ${predicted}` }),
  );
  made.addEventListener("click", () => take({ file: decoded(image), name: "test.png", address: image, exact: true, actual }));
  return made;
}

export function show(images, take, gallery = find("gallery")) {
  const tiles = images.map((each, position) => tile(each, position, take));
  gallery.replaceChildren(...tiles);
  const enter = (position) => {
    tiles.forEach((each, index) => (each.tabIndex = index === position ? 0 : -1));
    tiles[position].focus();
  };
  tiles.forEach((each, position) => {
    each.addEventListener("keydown", (event) => {
      const ends = { Home: 0, End: tiles.length - 1 };
      const target = ends[event.key] ?? position + (STEPS[event.key] ?? 0);
      if (target === position || !tiles[target]) return;
      event.preventDefault();
      enter(target);
    });
  });
}
