// The confusion matrix as a table: a row for each true class, shaded by its share of the row.

import { element, find } from "./dom.js";

const WORST = 8;

// The most frequent confusions, in words.
function worst(classes, counts) {
  const pairs = counts.flatMap((row, actual) =>
    row.flatMap((count, predicted) => (count && actual !== predicted ? [{ count, actual, predicted }] : [])),
  );
  if (!pairs.length) return element("p", { className: "worst", textContent: "All test images are classified correctly." });
  const named = pairs
    .sort((one, other) => other.count - one.count)
    .slice(0, WORST)
    .map(({ count, actual, predicted }) =>
      element("li", {}, element("span", { textContent: `${count} ×` }), `${classes[actual]} mistaken for ${classes[predicted]}`));
  return element("div", { className: "worst" }, element("h3", { textContent: "Most frequent mistakes" }), element("ol", {}, ...named));
}

export function show({ classes, counts }) {
  const heading = (scope, text) =>
    element("th", { scope, title: text }, element("span", { textContent: text }));
  const head = element("tr", {},
    element("th", { scope: "col", className: "corner", textContent: "true \\ predicted" }),
    ...classes.map((name) => heading("col", name)),
  );
  const rows = counts.map((row, actual) => {
    const total = row.reduce((sum, count) => sum + count, 0) || 1;
    const cells = row.map((count, predicted) =>
      element("td", {
        className: count === 0 ? "none" : actual === predicted ? "right" : "mistake",
        textContent: count || "·",
        style: count ? { "--share": Math.sqrt(count / total) } : {},
      }),
    );
    return element("tr", {}, heading("row", classes[actual]), ...cells);
  });
  find("confusion").replaceChildren(
    element(
      "div",
      {
        // Long names are written vertically.
        className: classes.some((name) => name.length > 4) ? "matrix long" : "matrix",
        tabIndex: 0, attributes: { role: "region", "aria-labelledby": "confusion-title" },
      },
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
    ),
    worst(classes, counts),
  );
}
