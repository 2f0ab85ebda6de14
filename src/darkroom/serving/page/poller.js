// Follows the champion: polls the API every two seconds, while the page is visible.

import * as api from "./api.js";
import * as key from "./key.js";
import { trouble } from "./notice.js";

const POLL = 2000; // ms
const DRIFT = 5; // polls between two updates of the drift watch, which other people's images change too

export class ChampionPoller {
  #timer;
  #isPolling = false;
  #polls = 0;
  #met = ""; // the model whose gallery and confusion matrix are shown
  model = null; // as /v1/model says

  // `changed(model, before)` is called when /v1/model changes, `met(model)` when the model itself changes, until it
  // succeeds, and `looked()` after each poll with a response.
  constructor({ changed, met, looked, drift }) {
    Object.assign(this, { changed, met, looked, drift });
    document.addEventListener("visibilitychange", () => this.poll());
  }

  // The drift watch is updated at the next poll.
  outdate() {
    this.#polls = 0;
  }

  async poll() {
    if (document.hidden || this.#isPolling) return;
    clearTimeout(this.#timer);
    this.#isPolling = true;
    try {
      await this.#ask();
      trouble("");
    } catch (problem) {
      if (problem.status === 401) return key.prompt(); // polling resumes with the key
      trouble(`${problem.message} – trying again`);
    } finally {
      this.#isPolling = false;
    }
    this.#timer = setTimeout(() => this.poll(), POLL);
  }

  async #ask() {
    const model = await api.model();
    const before = this.model;
    this.model = model;
    if (JSON.stringify(model) !== JSON.stringify(before)) this.changed(model, before);
    const name = JSON.stringify([model.name, model.version]);
    if (name !== this.#met) {
      await this.met(model);
      this.#met = name;
    }
    if (this.#polls++ % DRIFT === 0) await this.drift();
    this.looked();
  }
}
