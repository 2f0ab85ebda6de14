// Pictures to label.

// --- decisions ---------------------------------------------------------------------------------------------

// By digest: {label, when}; the label of a discarded picture is empty.
const decisions = new Map();
let saved = new Map();

const unsaved = () => countChanges(saved, decisions);

function decide(asked, label) {
  decisions.set(asked.digest, { label, when: timestamp() });
  show(label ? `Labeled ${label}` : "Discarded");
}

function save() {
  const who = find("who").value.trim();
  if (!who) {
    find("who").focus();
    show("Not saved: fill in who labeled them");
    return;
  }
  const alike = new Map(data.pictures.map((asked) => [asked.digest, asked.alike]));
  const rows = [...decisions].flatMap(([digest, { label, when }]) => {
    const others = alike.get(digest).map((other) => [other, "alike", ""]);
    return [[digest, label ? "label" : "discard", label], ...others].map((cells) => [...cells, who, when]);
  });
  download("inbox.csv", data.columns, rows);
  saved = new Map(decisions);
  show("Saved as inbox.csv, where your browser puts downloads. Run darkroom inbox --accept with it.");
}

// --- a picture ---------------------------------------------------------------------------------------------

const REASONS = { named: "somebody named its class", unlike: "unlike the training images", undecided: "undecided", disputed: "the challenger answers otherwise" };

function card(asked, position) {
  const classes = asked.suggested.map((label, number) => button(label, String(number + 1)));
  const others = data.classes.filter((each) => !asked.suggested.includes(each));
  const other = chooser("Another class", null, others);
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

function show(said = "") {
  for (const each of cards) each.update();
  const more = cards.length < data.total ? ` (${data.total.toLocaleString("en")} in the inbox)` : "";
  const all = cards.length ? `${decisions.size} of ${counted(cards.length, "picture")} decided` : "No pictures";
  showProgress(all + more, unsaved(), said);
}

find("who").value = data.who;
find("save").addEventListener("click", save);
listenToKeys((at, key) => (key === "l" ? at.other : null), unsaved);
find("pictures").append(...cards.map((each) => each.made));
if (!cards.length) find("pictures").append(element("p", { className: "nothing", textContent: "There is nothing to label." }));
for (const id of ["how", "bar"]) find(id).hidden = !cards.length;
show();
