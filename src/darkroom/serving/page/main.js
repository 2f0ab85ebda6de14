// The page: one picture at a time, classified by the current champion.

import * as answer from "./answer.js";
import * as api from "./api.js";
import * as camera from "./camera.js";
import { Paper } from "./canvas.js";
import * as card from "./card.js";
import * as cell from "./cell.js";
import * as confusion from "./confusion.js";
import { find } from "./dom.js";
import * as drift from "./drift.js";
import * as explain from "./explain.js";
import * as feedback from "./feedback.js";
import * as gallery from "./gallery.js";
import * as key from "./key.js";
import { notify } from "./notice.js";
import { ChampionPoller } from "./poller.js";
import * as sources from "./sources.js";
import * as stage from "./stage.js";

let picture = null; // the one shown: {file, name, drawn, exact, address, actual}
let asking = null; // the AbortController of the current request
let unanswered = false; // whether the picture must be sent again

const paper = new Paper(find("paper"), (file) => put(file && { file, name: "drawing.png", drawn: true }));

const poller = new ChampionPoller({
  changed(model, before) {
    card.show(model);
    lay();
    if (!picture) answer.wait(model.drawable);
    if (!before || (before.name === model.name && before.version === model.version)) return;
    notify(`Version ${model.version} of ${model.name} is now champion.`);
    if (picture) ask();
  },
  async met() {
    await optional("gallery-section", api.gallery, (images) => gallery.show(images, put));
    await optional("confusion-section", api.confusion, (found) =>
      confusion.show(found, (...chosen) => cell.open(poller.model, found, chosen, put)));
  },
  async drift() {
    await optional("drift-section", api.drift, drift.show);
  },
  looked() {
    if (unanswered) ask();
  },
});

// A section is hidden if this model has no data for it.
async function optional(section, question, show) {
  try {
    const found = await question();
    show(found);
    find(section).hidden = found.length === 0;
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    find(section).hidden = true;
  }
}

function put(found) {
  picture = found;
  lay();
  if (picture) return ask();
  asking?.abort();
  unanswered = false;
  find("answer").setAttribute("aria-busy", "false");
  answer.wait(poller.model?.drawable);
}

function lay() {
  stage.lay(picture, { drawable: poller.model?.drawable, empty: paper.isEmpty });
}

async function ask() {
  asking?.abort();
  unanswered = false;
  const mine = (asking = new AbortController());
  find("answer").setAttribute("aria-busy", "true");
  try {
    const reply = await api.predict(picture, { explain: explain.isOn() }, mine.signal);
    answer.show(reply, picture, poller.model?.coverage);
    feedback.offer(reply, picture, poller.model);
    poller.outdate();
    if (reply.version !== poller.model?.version) poller.poll();
  } catch (problem) {
    if (problem.name === "AbortError") return;
    unanswered = problem.passes || problem.status === 401;
    if (problem.status === 401) key.prompt();
    else answer.refuse(problem.passes ? `${problem.message} – trying again` : problem.message);
  }
  find("answer").setAttribute("aria-busy", "false");
}

find("undo").addEventListener("click", () => paper.undo());
find("clear").addEventListener("click", () => paper.clear());
sources.listen((file) => put({ file, name: file.name || "picture.png" }));
cell.listen();
camera.watch((file) => put({ file, name: file.name }));
explain.listen(ask);
key.listen(() => poller.poll());
poller.poll();
