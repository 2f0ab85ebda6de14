// The model's answer: the image it saw, the probabilities, and the challenger's answer beside them.

import { element, find, percent, showAsItIs } from "./dom.js";
import * as sets from "./sets.js";
import * as explain from "./explain.js";

const SHOWN = 5; // classes; the others are in a list that opens

// A list of classes that is open stays open for the next answer.
let opened = false;

function bars(entries) {
  const rows = entries.map(([label, probability]) =>
    element(
      "li",
      { className: "bar", style: { "--share": probability } },
      element("span", { className: "bar-label", textContent: label, title: label }),
      element("span", { className: "bar-track", attributes: { "aria-hidden": "true" } }),
      element("span", { className: "bar-share", textContent: percent(probability) }),
    ),
  );
  return element("ol", { className: "bars" }, ...rows);
}

function probabilities(found) {
  const entries = Object.entries(found.probabilities).sort((one, other) => other[1] - one[1]);
  const rest = entries.slice(SHOWN);
  if (!rest.length) return [bars(entries)];
  const more = element("details", { className: "more", open: opened });
  more.addEventListener("toggle", () => (opened = more.open));
  more.append(
    element("summary", { textContent: `The other ${rest.length}` }),
    element("div", { className: "rest", tabIndex: 0, attributes: { role: "region", "aria-label": "The other classes" } }, bars(rest)),
  );
  return [bars(entries.slice(0, SHOWN)), more];
}

function seen(found, drawn) {
  if (!found.seen) return null;
  const image = showAsItIs(element("img", { src: found.seen, alt: "The image as the model sees it", className: "seen-image" }));
  const caption = element("figcaption", {}, element("strong", { textContent: "What the model sees" }));
  const size = element("span", { className: "seen-size" });
  image.addEventListener("load", () => {
    size.textContent = `${image.naturalWidth} × ${image.naturalHeight} pixels`;
  });
  caption.append(size);
  const how = drawn ? "laid out like the training images" : found.inverted ? "the negative of the picture" : "";
  if (how) caption.append(element("span", { textContent: how }));
  return element("figure", { className: "seen" }, image, caption);
}

function column(title, version, found, role, coverage) {
  return element(
    "section",
    { className: `column ${role}` },
    element("h3", {}, element("span", { textContent: title }), element("span", { className: "pill", textContent: `version ${version}` })),
    element("p", { className: "verdict" },
      element("span", { className: "label", textContent: found.label, title: found.label }),
      element("span", { className: "sure", textContent: percent(found.probability) }),
    ),
    sets.line(found, coverage),
    ...probabilities(found),
  );
}

function warning(found) {
  const line = "Unlike the training images: the answer may be meaningless.";
  return found.unlike_training ? element("p", { className: "warning", textContent: line }) : null;
}

// `coverage` is that of the prediction sets.
export function show(reply, picture, coverage) {
  const [found] = reply.predictions;
  const rival = reply.challenger?.predictions[0];
  const parts = [column("Champion", reply.version, found, "champion", coverage)];
  if (rival) {
    const other = column("Challenger", reply.challenger.version, rival, "challenger", coverage);
    if (rival.seen !== found.seen) other.append(seen(rival, picture.drawn));
    parts.push(other);
  }
  const actual = picture.actual === undefined ? null
    : element("p", { className: "actual", textContent: `This test image is labeled ${picture.actual}.` });
  find("answer").replaceChildren(
    ...[
      element("div", { className: "top" }, explain.addTo(seen(found, picture.drawn), found), element("div", { className: "notes" }, actual, warning(found))),
      element("div", { className: "columns" }, ...parts),
    ].filter(Boolean),
  );
  const unlike = found.unlike_training ? " Unlike the training images." : "";
  find("spoken").textContent = `${found.label}, ${percent(found.probability)}, by version ${reply.version}.${unlike}${sets.spoken(found, coverage)}`;
}

export function refuse(line) {
  find("answer").replaceChildren(element("p", { className: "warning", textContent: line, attributes: { role: "alert" } }));
  find("spoken").textContent = "";
}

export function wait(drawable) {
  const line = drawable ? "Draw something, or choose a picture." : "Choose a picture, or one of the test images.";
  find("answer").replaceChildren(element("p", { className: "empty", textContent: line }));
  find("spoken").textContent = "";
}
