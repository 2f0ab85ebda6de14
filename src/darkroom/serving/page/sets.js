// The prediction set of an image: which labels the true one is among. One glance tells sure from unsure.
// A set of one label is not enough to be sure: the sets of a good model are small, also where two classes are as probable.

import { element, percent } from "./dom.js";

const NAMED = 6; // labels; of more, only the number is shown

// How sure the answer is, in a word and a line, by sets of a `coverage`; null for a version without prediction sets.
function judge({ label, probability, prediction_set: labels, probabilities, unlike_training: unlike }, coverage) {
  if (!labels) return null;
  if (!labels.length && unlike)
    return { kind: "unlike", word: "Unlike all classes", line: "No class fits." };
  if (!labels.length)
    return { kind: "unsure", word: "Unsure", line: "No class fits as well as it fits most images of this probability." };
  if (labels.length === 1 && labels[0] === label && probability >= coverage)
    return { kind: "sure", word: "Sure", line: "Only this class fits." };
  if (labels.length === 1)
    return { kind: "unsure", word: "Unsure", line: `Only ${labels[0]} fits, and less than ${percent(coverage)} speak for it.` };
  const every = Object.keys(probabilities).length;
  const line = labels.length === every ? "Every class fits."
    : labels.length > NAMED ? `${labels.length} of ${every} classes fit.`
    : `One of ${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}.`;
  return { kind: "unsure", word: "Unsure", line };
}

export function line(found, coverage) {
  const judged = judge(found, coverage);
  return judged && element(
    "p",
    { className: `set is-${judged.kind}` },
    element("span", { className: "set-word", textContent: judged.word }),
    element("span", { className: "set-line", textContent: judged.line }),
  );
}

export function spoken(found, coverage) {
  const judged = judge(found, coverage);
  return judged ? ` ${judged.word}. ${judged.line}` : "";
}
