// Charts, as SVG. Their numbers are in files beside the page, and what they show is said in words.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 340;
const HEIGHT = 260;
const EDGE = { left: 62, right: 22, top: 12, bottom: 38 };

function drawn(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Axes from the lowest to the highest value, and what places a point between them.
function axes(describe, { x, y, xTitle, yTitle, form }) {
  const chart = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": describe, class: "chart" });
  const along = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const placeX = along(x, EDGE.left, WIDTH - EDGE.right);
  const placeY = along(y, HEIGHT - EDGE.bottom, EDGE.top);
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = y[0] + share * (y[1] - y[0]);
    chart.append(
      drawn("line", { class: "rule", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: placeY(value), y2: placeY(value) }),
      drawn("text", { x: EDGE.left - 6, y: placeY(value) + 4, "text-anchor": "end" }, form.y(value)),
    );
  }
  for (const value of form.xTicks) {
    chart.append(drawn("text", { x: placeX(value), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, form.x(value)));
  }
  chart.append(
    drawn("text", { x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xTitle),
    drawn("text", { x: 12, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${HEIGHT / 2})` }, yTitle),
  );
  return { chart, placeX, placeY };
}

function line({ chart, placeX, placeY }, points, kind) {
  const path = points.map(([x, y], index) => `${index ? "L" : "M"}${placeX(x).toFixed(1)} ${placeY(y).toFixed(1)}`).join("");
  chart.append(drawn("path", { class: `line ${kind}`, d: path }));
  if (points.length === 1) chart.append(drawn("circle", { class: kind, cx: placeX(points[0][0]), cy: placeY(points[0][1]), r: 3 }));
}

function figure(chart, ...kinds) {
  const legend = kinds.map(([kind, text]) =>
    element("span", {}, element("span", { className: `key ${kind}`, attributes: { "aria-hidden": "true" } }), text));
  return element("figure", { className: "charted" }, chart, element("figcaption", { className: "row small" }, ...legend));
}

const inPercent = (value) => `${Math.round(100 * value)} %`;

// How often answers of each probability are right. On the diagonal they are right as often as they say.
function reliability({ own, calibrated }) {
  const place = axes("Accuracy over the probability of the answer", {
    x: [0, 1],
    y: [0, 1],
    xTitle: "probability of the answer",
    yTitle: "accuracy",
    form: { x: inPercent, y: inPercent, xTicks: [0, 0.25, 0.5, 0.75, 1] },
  });
  line(place, [[0, 0], [1, 1]], "even");
  for (const [bins, kind, shift] of [[own, "second", -1.5], [calibrated, "first", 1.5]]) {
    for (const { confidence, accuracy, low, high, images } of bins) {
      const x = place.placeX(confidence) + shift;
      const point = drawn("circle", { class: kind, cx: x, cy: place.placeY(accuracy), r: 3.5 });
      point.append(drawn("title", {}, `${inPercent(confidence)} sure, ${inPercent(accuracy)} right (${inPercent(low)} to ${inPercent(high)}), ${counted(images, "image")}`));
      place.chart.append(drawn("line", { class: `line ${kind}`, x1: x, x2: x, y1: place.placeY(low), y2: place.placeY(high) }), point);
    }
  }
  return figure(place.chart, ["first", "calibrated, as the server answers"], ["second", "the network’s own"]);
}

function learning(curves, metric, form) {
  const train = curves[`train_${metric}`];
  const val = curves[`val_${metric}`];
  const [first, last] = [curves.epoch[0], curves.epoch.at(-1)];
  const values = [...train, ...val];
  const place = axes(`The ${metric} of the train and the validation split after each epoch`, {
    x: [first, last],
    y: [Math.min(...values), Math.max(...values)],
    xTitle: "epoch",
    yTitle: metric,
    form: { x: String, y: form, xTicks: first === last ? [first] : [first, last] },
  });
  const best = place.placeX(curves.best);
  place.chart.append(drawn("line", { class: "line even", x1: best, x2: best, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
  line(place, train.map((value, index) => [curves.epoch[index], value]), "second");
  line(place, val.map((value, index) => [curves.epoch[index], value]), "first");
  return figure(place.chart, ["first", "validation"], ["second", "train"], ["even", `best epoch, ${curves.best}`]);
}
