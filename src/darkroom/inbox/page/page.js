"use strict";
// Pictures to label.

// --- decisions ---------------------------------------------------------------------------------------------

// By digest: {label, when}; the label of a discarded picture is empty.
const decisions = new Map();
let saved = new Map();

const unsaved = () => [...new Set([...saved.keys(), ...decisions.keys()])].filter((key) => saved.get(key) !== decisions.get(key)).length;

function decide(asked, label) {
  decisions.set(asked.digest, { label, when: new Date().toISOString().replace(/\.\d+Z/, "Z") });
  show(label ? `Labeled ${label}` : "Discarded");
}

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function save() {
  const who = find("who").value.trim();
  if (!who) {
    find("who").focus();
    show("Not saved: fill in who labeled them");
    return;
  }
  const alike = new Map(data.pictures.map((asked) => [asked.digest, asked.alike]));
  const lines = [...decisions].flatMap(([digest, { label, when }]) =>
    [[digest, label ? "label" : "discard", label], ...alike.get(digest).map((other) => [other, "alike", ""])].map((cells) => [...cells, who, when].map(cell).join(",")),
  );
  const content = [data.columns.join(","), ...lines, ""].join("\n");
  const address = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  element("a", { href: address, download: "inbox.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  saved = new Map(decisions);
  show("Saved as inbox.csv, where your browser puts downloads. Run darkroom inbox --accept with it.");
}

// --- a picture ---------------------------------------------------------------------------------------------

function button(text, key, className = "") {
  const hint = element("kbd", { textContent: key, attributes: { "aria-hidden": "true" } });
  return element("button", { type: "button", className, attributes: { "aria-keyshortcuts": key } }, name(text), hint);
}

const REASONS = { named: "somebody named its class", unlike: "unlike the training images", undecided: "undecided", disputed: "the challenger answers otherwise" };

// The choices are filled in when they are needed: of a thousand classes each picture would have too many.
function chooser(choices) {
  const made = element("select", { attributes: { "aria-label": "Another class" } });
  made.append(element("option", { value: "", textContent: "class…", disabled: true, selected: true }));
  const fill = () => {
    if (made.options.length === 1) made.append(...choices.map((value) => element("option", { value, textContent: value })));
  };
  made.addEventListener("focus", fill);
  made.addEventListener("pointerdown", fill);
  return made;
}

function card(asked, position) {
  const classes = asked.suggested.map((label, number) => button(label, String(number + 1)));
  const others = data.classes.filter((each) => !asked.suggested.includes(each));
  const other = chooser(others);
  const discard = button("Discard", "d");
  const back = button("Undo", "u", "quiet");
  const state = element("span");
  const decided = element("p", { className: "state" }, state, back);
  const answered = `${(100 * asked.probability).toFixed(0)} %`;

  const made = element(
    "article",
    { className: "finding", tabIndex: position ? -1 : 0, attributes: { "aria-label": `Picture ${position + 1}, taken for ${asked.answer}` } },
    element("div", { className: "picture" }, picture(asked, "")),
    element(
      "div",
      { className: "facts" },
      element(
        "p",
        { className: "tags" },
        element("span", {}, "answered ", name(asked.answer, "b"), ` ${answered} by version ${asked.version}`),
        asked.said ? element("span", { className: "suggested" }, "said to be ", name(asked.said, "b")) : null,
        element("span", { textContent: REASONS[asked.reason] }),
        asked.alike.length ? element("span", { textContent: `and ${asked.alike.length} alike` }) : null,
        element("span", { textContent: asked.received.slice(0, 10) }),
      ),
      element("div", { className: "actions" }, element("span", { className: "pair" }, ...classes), others.length ? other : null, discard),
      decided,
    ),
  );

  const actions = { d: () => decide(asked, ""), u: () => (decisions.delete(asked.digest), show("Undone")) };
  asked.suggested.forEach((label, number) => {
    actions[number + 1] = () => decide(asked, label);
    classes[number].addEventListener("click", actions[number + 1]);
  });
  discard.addEventListener("click", actions.d);
  back.addEventListener("click", actions.u);
  const choose = () => {
    if (other.value) decide(asked, other.value);
    return Boolean(other.value);
  };
  other.addEventListener("keydown", (event) => {
    if (event.key === "Escape") made.focus();
    else if (event.key !== "Enter") return;
    else if (choose()) go(position + 1);
    event.preventDefault();
  });
  // By mouse or finger; the keys change the choice many times before Enter.
  other.addEventListener("pointerup", () => (other.dataset.pointed = "true"));
  other.addEventListener("change", () => {
    if (other.dataset.pointed) choose();
    delete other.dataset.pointed;
  });
  made.addEventListener("focusin", () => mark(position));

  const update = () => {
    const now = decisions.get(asked.digest);
    classes.forEach((each, number) => each.setAttribute("aria-pressed", now?.label === asked.suggested[number]));
    discard.setAttribute("aria-pressed", now?.label === "");
    made.classList.toggle("decided", Boolean(now));
    decided.hidden = !now;
    state.textContent = now ? (now.label ? `Labeled ${now.label}` : "Discarded") : "";
  };
  return { made, update, actions, other: others.length ? other : null };
}

// --- the page ----------------------------------------------------------------------------------------------

const cards = data.pictures.map(card);
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

function show(said = "") {
  for (const each of cards) each.update();
  const open = unsaved();
  const more = cards.length < data.total ? ` (${data.total.toLocaleString("en")} in the inbox)` : "";
  const all = cards.length ? `${decisions.size} of ${counted(cards.length, "picture")} decided` : "No pictures";
  find("progress").textContent = all + more + (open ? `; ${counted(open, "decision")} not saved` : "");
  find("spoken").textContent = said;
  find("save").disabled = !open;
}

// Keys act on the picture that has the focus, and never while something is typed or chosen.
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
  } else if (key === "l" && at.other) at.other.focus();
  else return;
  event.preventDefault();
});

addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});

find("who").value = data.who;
find("save").addEventListener("click", save);
find("pictures").append(...cards.map((each) => each.made));
if (!cards.length) find("pictures").append(element("p", { className: "nothing", textContent: "There is nothing to label." }));
for (const id of ["how", "bar"]) find(id).hidden = !cards.length;
show();
