// The confusion matrix as a table: a row for each true class, shaded by its share of the row.
// One of its cells is in the tab order; the arrow keys move between them, and Enter opens one.

import { element, find } from "./dom.js";

const WORST = 8;
const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

// The most frequent confusions, in words.
function worst({ classes, counts }, open) {
  const pairs = counts.flatMap((row, actual) =>
    row.flatMap((count, predicted) => (count && actual !== predicted ? [{ count, actual, predicted }] : [])),
  );
  if (!pairs.length) return element("p", { className: "worst", textContent: "All test images are classified correctly." });
  const named = pairs
    .sort((one, other) => other.count - one.count)
    .slice(0, WORST)
    .map(({ count, actual, predicted }) => {
      const button = element("button", { type: "button", textContent: `${classes[actual]} mistaken for ${classes[predicted]}` });
      button.addEventListener("click", () => open(actual, predicted));
      return element("li", {}, element("span", { textContent: `${count} ×` }), button);
    });
  return element("div", { className: "worst" }, element("h3", { textContent: "Most frequent mistakes" }), element("ol", {}, ...named));
}

function listen(body, open) {
  const cellOf = (event) => event.target.closest("td");
  const openCell = (cell) => cell.className !== "none" && open(cell.parentElement.sectionRowIndex, cell.cellIndex - 1);
  let current = body.querySelector("td");
  current.tabIndex = 0;
  body.addEventListener("focusin", (event) => {
    current.tabIndex = -1;
    current = cellOf(event);
    current.tabIndex = 0;
  });
  body.addEventListener("click", (event) => cellOf(event) && openCell(cellOf(event)));
  body.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    const [down, right] = STEPS[event.key] ?? [0, 0];
    const to = body.rows[cell.parentElement.sectionRowIndex + down]?.cells[cell.cellIndex + right];
    if (event.key === "Enter" || event.key === " ") openCell(cell);
    else if (event.key in STEPS) to?.focus(); // a heading takes no focus
    else return;
    event.preventDefault();
  });
}

// `open` is called with the true and the predicted class of a cell that was chosen.
export function show(found, open) {
  const { classes, counts } = found;
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
        tabIndex: -1,
        textContent: count || "·",
        style: count ? { "--share": Math.sqrt(count / total) } : {},
      }),
    );
    return element("tr", {}, heading("row", classes[actual]), ...cells);
  });
  const body = element("tbody", {}, ...rows);
  listen(body, open);
  find("confusion").replaceChildren(
    element(
      "div",
      {
        // Long names are written vertically.
        className: classes.some((name) => name.length > 4) ? "matrix long" : "matrix",
        tabIndex: 0, attributes: { role: "region", "aria-labelledby": "confusion-title" },
      },
      element("table", { attributes: { role: "grid" } }, element("thead", {}, head), body),
    ),
    worst(found, open),
  );
}
