// Findings to decide about.

// --- decisions ---------------------------------------------------------------------------------------------

// By image: its content, and the label that it had. In the order of the file.
const keyOf = (image) => JSON.stringify([image.digest, image.given]);
const earlier = new Map(data.fixes.map((fix) => [keyOf(fix), fix]));
const decisions = new Map(earlier);
let saved = new Map(earlier);

const WORDS = { keep: "keep", drop: "drop", relabel: "relabel to", move: "move to" };
const inWords = (fix) => `${WORDS[fix.decision]} ${fix.new}`.trim();

const unsaved = () => countChanges(saved, decisions);

function decide(finding, decision, value = "") {
  const { digest, file, given } = finding;
  // Who decided is filled in when it is saved.
  decisions.set(keyOf(finding), { digest, file, given, decision, new: value, who: null, when: timestamp() });
  show(`${file || "Image"}: ${inWords(decisions.get(keyOf(finding)))}`);
}

// Back to what was decided before, and then to no decision.
function undo(key) {
  const before = earlier.get(key);
  if (before && decisions.get(key) !== before) decisions.set(key, before);
  else decisions.delete(key);
  show("Undone");
}

// --- the file ----------------------------------------------------------------------------------------------

function save() {
  const who = find("who").value.trim();
  if (!who && [...decisions.values()].some((fix) => fix.who === null)) {
    find("who").focus();
    show("Not saved: fill in who decided");
    return;
  }
  for (const [key, fix] of decisions) if (fix.who === null) decisions.set(key, { ...fix, who });
  download("fixes.csv", data.columns, [...decisions.values()].map((fix) => data.columns.map((name) => fix[name])));
  saved = new Map(decisions);
  show("Saved as fixes.csv, where your browser puts downloads. Put it at data/fixes.csv and run dvc repro.");
}

// --- a finding ---------------------------------------------------------------------------------------------

function neighbor(number) {
  const image = data.images[number];
  return element(
    "figure",
    { title: image.file },
    picture(image, image.file),
    element("figcaption", {}, name(image.label), element("span", { className: "small", textContent: image.split })),
  );
}

function card(finding, position) {
  const image = data.images[finding.image];
  const given = finding.given;
  const labels = data.classes.filter((each) => each !== given);
  const splits = data.splits.filter((each) => each !== finding.split);
  const suggested = labels.includes(finding.suggested) ? finding.suggested : null;

  const keep = button("Keep", "k");
  const drop = button("Drop", "d");
  const relabel = button("Relabel", "r");
  const classes = chooser("New class", suggested, labels);
  const move = button("Move", "m");
  const places = chooser("New split", splits[0], splits);
  const back = button("Undo", "u", "quiet");
  const state = element("span");
  const decided = element("p", { className: "state" }, state, back);

  const made = element(
    "article",
    { className: "finding", tabIndex: position ? -1 : 0, attributes: { "aria-label": `${finding.file || "image"}, labeled ${given}` } },
    element("div", { className: "picture" }, picture(image, "")),
    element(
      "div",
      { className: "facts" },
      element("h3", {}, name(finding.file || `${finding.split} image`)),
      element(
        "p",
        { className: "tags" },
        element("span", {}, "label ", name(given, "b")),
        finding.suggested === null ? null : element("span", { className: "suggested" }, "suggested ", name(finding.suggested, "b")),
        element("span", {}, "split ", name(finding.split, "b")),
        element("span", {}, "score ", name(finding.score.toFixed(2), "b")),
      ),
      element("p", { className: "reason", textContent: finding.reason }),
      finding.neighbors.length ? element("div", { className: "neighbors" }, ...finding.neighbors.map(neighbor)) : null,
      element(
        "div",
        { className: "actions" },
        element("span", { className: "pair" }, keep, drop),
        element("span", { className: "pair" }, relabel, classes),
        element("span", { className: "pair" }, move, places),
      ),
      decided,
    ),
  );

  const choices = { relabel: classes, move: places };
  const actions = {
    k: () => decide(finding, "keep"),
    d: () => decide(finding, "drop"),
    u: () => undo(keyOf(finding)),
  };
  const take = (decision) => {
    const value = choices[decision].value;
    if (value) decide(finding, decision, value);
    else choices[decision].focus();
    return Boolean(value);
  };
  keep.addEventListener("click", actions.k);
  drop.addEventListener("click", actions.d);
  back.addEventListener("click", actions.u);
  relabel.addEventListener("click", () => take("relabel"));
  move.addEventListener("click", () => take("move"));
  for (const [decision, select] of Object.entries(choices)) {
    select.addEventListener("keydown", (event) => {
      if (event.key === "Escape") made.focus();
      else if (event.key !== "Enter") return;
      else if (take(decision)) go(position + 1);
      event.preventDefault();
    });
  }
  made.addEventListener("focusin", () => mark(position));

  const buttons = { keep, drop, relabel, move };
  const update = () => {
    const fix = decisions.get(keyOf(finding));
    const before = fix && fix === earlier.get(keyOf(finding));
    for (const [decision, each] of Object.entries(buttons)) each.setAttribute("aria-pressed", fix?.decision === decision);
    made.classList.toggle("decided", Boolean(fix));
    decided.hidden = !fix;
    const by = fix?.who ? ` by ${fix.who}, ${fix.when}` : "";
    state.textContent = fix ? `Decided: ${inWords(fix)}${by}${before ? ", in data/fixes.csv" : ""}` : "";
  };
  return { made, finding, update, actions, choices };
}

// --- the page ----------------------------------------------------------------------------------------------

const cards = data.findings.map(card);
const found = data.kinds.reduce((sum, kind) => sum + kind.total, 0);
const sections = data.kinds.map(({ kind, title, about, total }, number) => {
  const own = cards.filter((each) => each.finding.kind === kind);
  const count = element("span", { className: "count" });
  const link = element("a", { href: `#kind-${number}` }, title, count.cloneNode());
  const made = element(
    "section",
    { id: `kind-${number}`, attributes: { "aria-label": title } },
    element("h2", {}, title, count),
    element("p", { className: "small", textContent: about }),
    own.length < total ? element("p", { className: "small", textContent: `The first ${own.length} of ${counted(total, "finding")}; findings.json has all, and an audit after your decisions shows the next.` }) : null,
    ...own.map((each) => each.made),
  );
  const update = () => {
    const done = own.filter((each) => decisions.has(keyOf(each.finding))).length;
    count.textContent = `${total.toLocaleString("en")}${done ? `, ${done} decided` : ""}`;
    link.lastChild.textContent = total.toLocaleString("en");
  };
  return { made, link, update };
});

const lines = [...earlier].map(([key, fix]) => {
  const switched = element("button", { type: "button", className: "quiet" });
  const changed = element("span", { className: "small" });
  switched.addEventListener("click", () => {
    if (decisions.get(key) === fix) decisions.delete(key);
    else decisions.set(key, fix);
    show(decisions.has(key) ? "Restored" : "Undone");
  });
  const made = element(
    "li",
    {},
    element(
      "span",
      { className: "line" },
      name(fix.file || fix.digest, "b"),
      element("span", {}, "label ", name(fix.given), ": ", name(inWords(fix))),
      element("span", { className: "small", textContent: `${fix.who}, ${fix.when}` }),
      changed,
    ),
    switched,
  );
  const update = () => {
    const now = decisions.get(key);
    made.classList.toggle("undone", now !== fix);
    changed.textContent = now === fix ? "" : now ? `now: ${inWords(now)}` : "now: no decision";
    switched.textContent = now === fix ? "Undo" : "Restore";
    switched.setAttribute("aria-label", `${switched.textContent}: ${fix.file || fix.digest}`);
  };
  return { made, update };
});

function show(said = "") {
  for (const each of [...cards, ...sections, ...lines]) each.update();
  const done = cards.filter((each) => decisions.has(keyOf(each.finding))).length;
  const all = cards.length ? `${done} of ${counted(cards.length, "finding")} decided` : "No findings";
  const more = cards.length < found ? ` (${found.toLocaleString("en")} in all)` : "";
  showProgress(all + more, unsaved(), said);
}

find("dataset").textContent = data.dataset;
find("warnings").append(...data.warnings.map((line) => element("li", { textContent: line })));
find("warnings").hidden = !data.warnings.length;
find("who").value = data.who;
find("save").addEventListener("click", save);
listenToKeys(({ choices }, key) => ({ r: choices.relabel, m: choices.move })[key], unsaved);
find("sections").append(...sections.map((each) => each.link));
find("findings").append(...sections.map((each) => each.made));
if (!cards.length) find("findings").append(element("p", { className: "nothing", textContent: "Nothing suspicious was found." }));
for (const id of ["how", "bar"]) find(id).hidden = !cards.length && !lines.length;
if (lines.length) {
  find("earlier").hidden = false;
  find("earlier-title").textContent = `In data/fixes.csv: ${counted(lines.length, "decision")}`;
  find("earlier-list").append(...lines.map((each) => each.made));
}
show();
