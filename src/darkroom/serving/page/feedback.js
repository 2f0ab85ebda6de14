// "This is a …": a person names the class of the picture, which is kept for people to label.

import * as api from "./api.js";
import { element, find } from "./dom.js";

// Below the answer, if the server keeps pictures. A test image has its label, and nothing is to be learned from it.
export function offer(reply, picture, model) {
  if (!model?.inbox || picture.actual !== undefined) return;
  const { probabilities } = reply.predictions[0];
  const labels = Object.keys(probabilities).sort((one, other) => probabilities[other] - probabilities[one]);
  const choice = element(
    "select",
    { id: "feedback-label", required: true },
    element("option", { value: "", textContent: "class…", disabled: true, selected: true }),
    ...labels.map((label) => element("option", { value: label, textContent: label })),
  );
  const send = element("button", { type: "submit", textContent: "Send" });
  const said = element("p", { className: "small", attributes: { role: "status", "aria-live": "polite" } });
  said.textContent = "What the model saw of the picture is kept with it, and nothing else. People look at it before a model learns it.";
  const form = element(
    "form",
    { className: "feedback" },
    element("label", { htmlFor: "feedback-label", textContent: "This is a" }),
    choice,
    send,
    said,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const { kept, detail } = await api.correct(picture, choice.value);
      said.textContent = kept ? `Kept as ${choice.value}. Thank you.` : `Not kept: ${detail}.`;
    } catch (problem) {
      said.textContent = `Not kept: ${problem.message}.`;
    }
    send.disabled = false;
  });
  find("answer").append(form);
}
