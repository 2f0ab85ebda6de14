// The prediction set of an image: which labels the true one is among. One glance tells sure from unsure.

import { element } from "./dom.js";

const NAMED = 6; // labels; of more only the number is told

// How sure the answer is, in a word and a line; null for a version without prediction sets.
function judge({ label, prediction_set: labels, probabilities }) {
  if (!labels) return null;
  if (!labels.length)
    return { kind: "unlike", word: "Unlike all classes", line: "No class fits as well as it fits usual images." };
  if (labels.length === 1 && labels[0] === label) return { kind: "sure", word: "Sure", line: "Only this class fits." };
  if (labels.length === 1) return { kind: "unsure", word: "Unsure", line: `Only ${labels[0]} fits.` };
  const every = Object.keys(probabilities).length;
  const line = labels.length === every ? "Every class fits."
    : labels.length > NAMED ? `${labels.length} of ${every} classes fit.`
    : `One of ${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}.`;
  return { kind: "unsure", word: "Unsure", line };
}

export function line(found) {
  const judged = judge(found);
  return judged && element(
    "p",
    { className: `set is-${judged.kind}` },
    element("span", { className: "set-word", textContent: judged.word }),
    element("span", { className: "set-line", textContent: judged.line }),
  );
}

export function spoken(found) {
  const judged = judge(found);
  return judged ? ` ${judged.word}. ${judged.line}` : "";
}
