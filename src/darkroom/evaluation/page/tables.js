// The head of the page and its tables.

const SHARES = /accuracy|coverage|precision|recall|f1/;
const percent = (value) => `${(100 * value).toFixed(2)} %`;

function form(metric, value) {
  if (Number.isInteger(value) && !SHARES.test(metric)) return value.toLocaleString("en");
  return SHARES.test(metric) ? percent(value) : value.toFixed(4);
}

function fill(id, heads, rows) {
  const head = heads.map((text) => element("th", { scope: "col", textContent: text }));
  const cell = (content, position) =>
    position ? element("td", {}, content) : element("th", { scope: "row" }, content);
  find(id).append(
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  );
}

const between = (low, high, metric) =>
  low === null || low === undefined ? "" : `${form(metric, low)} to ${form(metric, high)}`;

function open(id) {
  find(id).hidden = false;
  document.querySelector(`nav a[href="#${id}"]`).hidden = false;
}

find("dataset").textContent = data.about.dataset;
find("about").append(
  ...Object.entries(data.about)
    .filter(([key]) => key !== "dataset")
    .map(([key, value]) => element("span", {}, `${key} `, name(value, "b"))),
);
find("warnings").append(...data.warnings.map((text) => element("li", { textContent: text })));
find("warnings").hidden = !data.warnings.length;
find("notes").append(...data.notes.map((text) => element("li", { textContent: text })));
find("notes").hidden = !data.notes.length;

fill("metrics-table", ["metric", "value", "95 % interval"],
  data.metrics.map(({ name: metric, value, low, high }) =>
    [metric.replaceAll("_", " "), form(metric, value), between(low, high, metric)]));

function score([value, low, high]) {
  if (value === null) return "no images";
  return element("span", {}, percent(value), element("span", { className: "small interval", textContent: `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}` }));
}

const weakest = data.perClass
  .map((row, label) => ({ ...row, label }))
  .sort((one, other) => (one.f1[0] ?? 2) - (other.f1[0] ?? 2));
fill("classes-table", ["class", "images", "F1", "precision", "recall"],
  weakest.map(({ label, support, f1, precision, recall }) => {
    const chosen = element("button", { type: "button", className: "quiet" }, name(data.classes[label]));
    chosen.addEventListener("click", () => choose({ actual: label, which: "all" }));
    return [chosen, support.toLocaleString("en"), score(f1), score(precision), score(recall)];
  }));

if (data.slices.length) {
  open("slices");
  const rest = data.slicesTotal > data.slices.length ? ` The worst ${data.slices.length} of ${data.slicesTotal.toLocaleString("en")}; slices.json has all.` : "";
  find("slices-about").textContent = `Images that have something in common besides their class. Marked slices are worse than chance explains.${rest}`;
  fill("slices-table", ["slice", "images", "accuracy", "95 % interval"],
    data.slices.map((row) => [
      element("span", { className: row.named ? "named" : "" }, row.named ? "▼ " : "", `${row.attribute} `, name(row.value, "b")),
      row.images.toLocaleString("en"),
      percent(row.accuracy),
      between(row.accuracy_low, row.accuracy_high, "accuracy"),
    ]));
}

if (data.sets) {
  open("sets");
  fill("sets-table", ["labels in the set", "images", "hold the true class"],
    data.sets.map(({ size, images, right }) => [
      size ? String(size) : "none",
      images.toLocaleString("en"),
      percent(right / images),
    ]));
}

find("calibration-about").textContent =
  `How often answers of each probability are right, with 95 % intervals: above the line more often than they say, below it less often. Temperature ${data.calibration.temperature.toFixed(3)}, fitted on the validation split.`;
find("calibration-chart").append(reliability(data.calibration));

if (data.curves) {
  open("curves");
  find("curves-charts").append(
    learning(data.curves, "loss", (value) => value.toPrecision(2)),
    learning(data.curves, "accuracy", (value) => `${(100 * value).toFixed(1)} %`),
  );
}

for (const { section, says, source } of data.figures) {
  open(section);
  find(section).append(
    element("div", { className: "drawn", tabIndex: 0, role: "region", ariaLabel: says }, element("img", { alt: says, src: source })));
}
