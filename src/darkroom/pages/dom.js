"use strict";
// Building a page from its data. Text is always set as text, so no name in the data can become markup.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const { attributes = {}, ...own } = properties;
  const made = Object.assign(document.createElement(tag), own);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// Squares of color up to this size, and photographs above it.
const FEW_PIXELS = 64;

function picture(image, describe) {
  const made = element("img", { src: image.source, alt: describe, loading: "lazy", decoding: "async" });
  made.addEventListener("load", () => {
    made.classList.toggle("pixels", Math.max(made.naturalWidth, made.naturalHeight) <= FEW_PIXELS);
  });
  return made;
}

const name = (text, kind = "bdi") => element(kind, { textContent: text });
