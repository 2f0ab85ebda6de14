// The images of a choice, sorted. One of them is in the tab order; the arrow keys move between them.

const AT_ONCE = 60;
const MEANINGS = {
  loss: "First those whose true class has the lowest probability: confident mistakes, and labels that may be wrong.",
  doubt: "First those whose answer has the lowest probability.",
  energy: "First those most unlike the training images, by the energy of the logits.",
};
const ANY = "";

let chosen = []; // the images of the choice, sorted
let visible = 0;

function fillClasses(id) {
  find(id).append(
    element("option", { value: ANY, textContent: "any class" }),
    ...data.classes.map((text, label) => element("option", { value: String(label), textContent: text })),
  );
}

function matches({ actual, predicted }) {
  const fits = (id, label) => find(id).value === ANY || Number(find(id).value) === label;
  const which = find("which").value;
  const kind = which === "all" || (which === "right") === (actual === predicted);
  return kind && fits("actual", actual) && fits("predicted", predicted);
}

function tile(image) {
  const right = image.actual === image.predicted;
  const made = element(
    "button",
    { type: "button", className: right ? "tile" : "tile wrong", tabIndex: -1 },
    picture(image, ""),
    element("span", { className: "name" }, name(data.classes[image.actual])),
    element("span", { className: "name answer" }, right ? "✓ " : "→ ", name(data.classes[image.predicted])),
    element("span", { className: "small", textContent: percent(1 - image.doubt) }),
  );
  made.title = `${image.file}\n${data.classes[image.actual]}, predicted ${data.classes[image.predicted]}`.trim();
  return made;
}

const tiles = () => [...find("grid").children];

function focusTile(position) {
  while (position >= visible && visible < chosen.length) showMore();
  const all = tiles();
  all.forEach((each, index) => (each.tabIndex = index === position ? 0 : -1));
  all[position]?.focus();
}

function showMore() {
  const next = chosen.slice(visible, visible + AT_ONCE);
  find("grid").append(...next.map(tile));
  visible += next.length;
  find("more").hidden = visible === chosen.length;
}

function update() {
  const order = find("order").value;
  chosen = data.images.filter(matches).sort((one, other) => other[order] - one[order]);
  visible = 0;
  find("grid").replaceChildren();
  showMore();
  if (chosen.length) tiles()[0].tabIndex = 0;
  find("meaning").textContent = MEANINGS[order];
  const listedCells = data.cells.filter(([actual, predicted]) => matches({ actual, predicted }));
  const all = listedCells.reduce((sum, [, , number]) => sum + number, 0);
  const hidden = all - chosen.length;
  const rest = hidden > 0 ? ` ${hidden.toLocaleString("en")} more are not in this file; predictions.csv lists all of them.` : "";
  find("shown").textContent = `${counted(chosen.length, "image")}.${rest}`;
}

// Shows the images of a cell or a class, and goes there.
function choose({ actual = ANY, predicted = ANY, which }) {
  find("actual").value = String(actual);
  find("predicted").value = String(predicted);
  find("which").value = which;
  update();
  find("images").scrollIntoView();
  if (chosen.length) focusTile(0);
}

for (const id of ["actual", "predicted"]) fillClasses(id);
for (const id of ["actual", "predicted", "which", "order"]) find(id).addEventListener("change", update);
find("more").addEventListener("click", () => focusTile(visible));
find("grid").addEventListener("click", ({ target }) => {
  const made = target.closest(".tile");
  if (made) openDetail(chosen, tiles().indexOf(made));
});
find("grid").addEventListener("keydown", (event) => {
  const all = tiles();
  const position = all.indexOf(event.target);
  const columns = all.findIndex((each) => each.offsetTop > all[0].offsetTop);
  const wide = columns < 1 ? all.length : columns;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide };
  const ends = { Home: 0, End: all.length - 1 };
  const target = ends[event.key] ?? position + (steps[event.key] ?? 0);
  if (!(event.key in steps || event.key in ends)) return;
  event.preventDefault();
  if (target >= 0 && target < chosen.length) focusTile(target);
});
if (!data.images.some(matches)) find("which").value = "all";
update();
