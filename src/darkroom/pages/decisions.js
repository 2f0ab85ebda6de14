// Deciding about `cards`, one after the other, by keyboard, and saving the decisions as a CSV file. The page has the
// cards, each with the element `made` and its `actions` by key, and the functions `save` and `show`.

// The time, to the second.
const timestamp = () => new Date().toISOString().replace(/\.\d+Z/, "Z");

// How many decisions differ between two maps.
const countChanges = (saved, decisions) =>
  [...new Set([...saved.keys(), ...decisions.keys()])].filter((key) => saved.get(key) !== decisions.get(key)).length;

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function download(file, columns, rows) {
  const content = [columns, ...rows].map((cells) => `${cells.map(cell).join(",")}\n`).join("");
  const address = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  element("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

function button(text, key, className = "") {
  const hint = element("kbd", { textContent: key, attributes: { "aria-hidden": "true" } });
  return element("button", { type: "button", className, attributes: { "aria-keyshortcuts": key } }, name(text), hint);
}

// The choices are filled in when they are needed: with a thousand classes each page would have too many.
function chooser(label, chosen, choices) {
  const made = element("select", { attributes: { "aria-label": label } });
  const option = (value) => element("option", { value, textContent: value, selected: value === chosen });
  if (chosen === null) made.append(element("option", { value: "", textContent: "class…", disabled: true, selected: true }));
  else made.append(option(chosen));
  const fill = () => {
    if (made.dataset.filled) return;
    made.dataset.filled = "true";
    made.append(...choices.filter((value) => value !== chosen).map(option));
  };
  made.addEventListener("focus", fill);
  made.addEventListener("pointerdown", fill);
  return made;
}

let current = 0;

function mark(position) {
  cards[current].made.tabIndex = -1;
  current = position;
  cards[current].made.tabIndex = 0;
}

function go(position) {
  const target = cards[Math.max(0, Math.min(position, cards.length - 1))];
  target?.made.focus({ preventScroll: true });
  target?.made.scrollIntoView({ block: "nearest" });
}

// What was decided, what is not saved, and what is said of the last action.
function showProgress(all, unsaved, said) {
  find("progress").textContent = all + (unsaved ? `; ${counted(unsaved, "decision")} not saved` : "");
  find("spoken").textContent = said;
  find("save").disabled = !unsaved;
}

// Keys act on the card that has the focus, and never while something is typed or chosen. `choosers` gives for a card and
// a key the select to go to, if there is one.
function listenToKeys(choosers, countUnsaved) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    const inside = event.target.closest(".finding");
    const at = cards[current];
    if (key === "s") {
      if (!find("save").disabled) save();
    } else if (!at) return;
    else if (step) go(inside ? current + step : current);
    else if (at.actions[key]) {
      at.actions[key]();
      go(key === "u" ? current : current + 1);
    } else if (choosers(at, key)) choosers(at, key).focus();
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => {
    if (countUnsaved()) event.preventDefault();
  });
}
