// The confusion matrix. One of its cells is in the tab order; the arrow keys move between them.

// Of more classes only the most frequent confusions are listed.
const MOST_CLASSES = 150;
// Above this many classes numbers in the cells would make it too large.
const MOST_NUMBERED = 25;
const WORST = 10;

const count = data.classes.length;
const images = new Map(data.cells.map(([actual, predicted, number]) => [actual * count + predicted, number]));
const inCell = (actual, predicted) => images.get(actual * count + predicted) ?? 0;

function describeCell(actual, predicted) {
  const number = inCell(actual, predicted);
  const of = data.perClass[actual].support;
  const share = of ? ` (${percent(number / of)} of its ${of.toLocaleString("en")})` : "";
  const what = actual === predicted ? "are recognized" : `are taken for ${data.classes[predicted]}`;
  return `${data.classes[actual]}: ${counted(number, "image")}${share} ${what}`;
}

function heading(scope, label) {
  return element("th", { scope, title: data.classes[label] }, name(data.classes[label], "span"));
}

function makeMatrix() {
  const rows = data.classes.map((_, actual) => {
    const of = data.perClass[actual].support || 1;
    const cells = data.classes.map((_, predicted) => {
      const number = inCell(actual, predicted);
      const made = element("td", { tabIndex: -1, attributes: { role: "gridcell" } });
      if (!number) return made;
      made.className = actual === predicted ? "right" : "mistake";
      // The square root makes the few mistakes of a good model visible.
      made.style.setProperty("--share", Math.sqrt(number / of).toFixed(3));
      if (count <= MOST_NUMBERED) made.textContent = number.toLocaleString("en");
      else made.setAttribute("aria-label", String(number));
      return made;
    });
    return element("tr", {}, heading("row", actual), ...cells);
  });
  const head = element("tr", {}, element("td", { className: "corner" }), ...data.classes.map((_, label) => heading("col", label)));
  const long = data.classes.some((each) => each.length > 4);
  return element(
    "table",
    { className: `${count > MOST_NUMBERED ? "dense" : "numbered"}${long ? " long" : ""}`, attributes: { role: "grid", "aria-labelledby": "confusion-title" } },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
}

const place = (cell) => [cell.parentElement.rowIndex - 1, cell.cellIndex - 1];

function listen(table) {
  const body = table.tBodies[0];
  let current = body.rows[0].cells[1];
  current.tabIndex = 0;
  const say = (cell) => (find("cell").textContent = describeCell(...place(cell)));
  const enter = (cell) => {
    current.tabIndex = -1;
    current = cell;
    current.tabIndex = 0;
    say(cell);
  };
  const openCell = (cell) => {
    const [actual, predicted] = place(cell);
    if (inCell(actual, predicted)) choose({ actual, predicted, which: "all" });
  };
  const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  const within = (target) => target.closest("tbody td");
  table.addEventListener("focusin", ({ target }) => within(target) && enter(within(target)));
  table.addEventListener("mouseover", ({ target }) => within(target) && say(within(target)));
  table.addEventListener("click", ({ target }) => {
    const cell = within(target);
    if (!cell) return;
    cell.focus();
    openCell(cell);
  });
  table.addEventListener("keydown", (event) => {
    const cell = within(event.target);
    if (!cell) return;
    const [actual, predicted] = place(cell);
    const [down, right] = STEPS[event.key] ?? [0, 0];
    const ends = { Home: 0, End: count - 1 };
    const to = body.rows[actual + down]?.cells[(ends[event.key] ?? predicted + right) + 1];
    if (event.key === "Enter" || event.key === " ") openCell(cell);
    else if (to && to !== cell && within(to)) to.focus();
    else if (!(event.key in STEPS)) return;
    event.preventDefault();
  });
}

if (count <= MOST_CLASSES) {
  const table = makeMatrix();
  find("matrix").append(table);
  listen(table);
} else {
  find("matrix").textContent = `A matrix of ${count.toLocaleString("en")} classes would be too large to look at; confusion_matrix.csv has it.`;
}

const worst = data.cells.filter(([actual, predicted]) => actual !== predicted).slice(0, WORST);
find("worst").append(
  element("h3", { textContent: worst.length ? "Most frequent mistakes" : "All test images are recognized." }),
  element(
    "ol",
    { className: "worst row" },
    ...worst.map(([actual, predicted, number]) => {
      const chosen = element("button", { type: "button", className: "quiet" },
        `${number.toLocaleString("en")} × `, name(data.classes[actual]), " → ", name(data.classes[predicted]));
      chosen.addEventListener("click", () => choose({ actual, predicted, which: "all" }));
      return element("li", {}, chosen);
    }),
  ),
);
