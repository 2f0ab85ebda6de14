// The model's card, and its name in the page's header.

import { element, find, moment, percent } from "./dom.js";

const METRICS = {
  accuracy: ["Accuracy", (value) => percent(value, 2)],
  f1_macro: ["F1, macro", (value) => value.toFixed(4)],
  log_loss: ["Log loss", (value) => value.toFixed(4)],
  calibration_error: ["Calibration error", (value) => value.toFixed(4)],
};

// Metrics of the calibrated probabilities, which the page shows, if the version has them.
function metrics(found) {
  return Object.entries(METRICS).flatMap(([key, [title, form]]) => {
    const name = `calibrated_${key}` in found ? `calibrated_${key}` : key;
    const { [name]: value, [`${name}_low`]: low, [`${name}_high`]: high } = found;
    if (value === undefined) return [];
    const interval = low !== undefined && high !== undefined ? `, 95 % interval ${form(low)} to ${form(high)}` : "";
    return [[title, form(value) + interval]];
  });
}

function list(rows) {
  const pairs = rows
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([title, value]) =>
      element("div", {}, element("dt", { textContent: title }), element("dd", {}, value)));
  return element("dl", {}, ...pairs);
}

export function show(model) {
  const [channels, height, width] = model.shape;
  const rival = model.challenger;
  document.title = `${model.name} · Darkroom`;
  find("model-name").textContent = model.name;
  find("model-version").textContent = `version ${model.version}`;
  find("card").replaceChildren(
    ...[
      model.trouble ? element("p", { className: "warning", textContent: model.trouble }) : null,
      list([
        ["Name", model.name],
        ["Version", model.version],
        ["Champion since", model.champion_since && moment(model.champion_since)],
        ["Trained", model.trained_at && moment(model.trained_at)],
        ["Architecture", model.architecture],
        ["Parameters", model.parameters?.toLocaleString("en-GB")],
        ["Data", model.dataset],
        ["Classes", String(model.classes.length)],
        ["Image", `${width} × ${height} pixels, ${channels === 1 ? "gray" : "color"}`],
        ...metrics(model.metrics),
        ["Prediction sets", model.coverage && `hold the true class of ${percent(model.coverage)} of usual images`],
        ["Temperature", model.temperature?.toFixed(3)],
        ["Runtime", model.runtime === "onnx" ? "ONNX Runtime" : "PyTorch"],
        ["Run", model.run_id],
      ]),
      rival ? element("h3", { textContent: `Challenger: version ${rival.version}` }) : null,
      rival ? list([["Gate", rival.verdict], ...metrics(rival.metrics)]) : null,
    ].filter(Boolean),
  );
}
