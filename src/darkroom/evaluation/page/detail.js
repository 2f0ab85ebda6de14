// One image with everything that is known of it, and the train images beside it.

const fact = (title, ...content) => element("div", {}, element("dt", { textContent: title }), element("dd", {}, ...content));

function bars(image) {
  const has = image.top.some(([label]) => label === image.actual);
  const shown = has ? image.top : [...image.top, [image.actual, image.own]];
  const rows = shown.map(([label, probability]) => {
    const bar = element("span", { className: "share", attributes: { "aria-hidden": "true" } });
    bar.style.setProperty("--share", probability);
    return element("li", { className: label === image.actual ? "true" : "" },
      name(data.classes[label]), element("span", { textContent: percent(probability) }), bar);
  });
  return element("ol", { className: "probabilities" }, ...rows);
}

function neighbor([number, likeness]) {
  const known = data.train[number];
  return element(
    "figure",
    { title: known.file },
    picture(known, ""),
    element("figcaption", {}, name(data.classes[known.label]), element("span", { className: "small", textContent: `alike ${likeness.toFixed(2)}` })),
  );
}

function taught(image) {
  if (image.near.length) {
    const some = data.lookedAt < data.trainSize ? ` among ${data.lookedAt.toLocaleString("en")} of ${counted(data.trainSize, "train image")}` : "";
    return [
      element("h3", { textContent: "It was taught by these" }),
      element("p", { className: "small", textContent: `The train images most alike by the model’s own features${some}.` }),
      element("div", { className: "neighbors" }, ...image.near.map(neighbor)),
    ];
  }
  const why = data.lookedAt ? "There was no room in this file for the train images near this one." : "The train images are not on the machine that evaluated: no neighbors.";
  return [element("p", { className: "small", textContent: why })];
}

function describe(image) {
  const right = image.actual === image.predicted;
  const unlike = image.energy > data.unlikeAbove;
  const set = image.set?.map((label) => data.classes[label]).join(", ");
  return element(
    "div",
    { className: "described" },
    element("div", { className: "large" }, picture(image, "")),
    element(
      "div",
      {},
      element("dl", {},
        fact("True class", name(data.classes[image.actual], "b")),
        fact("Predicted", name(data.classes[image.predicted], "b"), right ? " – right" : " – wrong"),
        fact("Doubt", percent(image.doubt)),
        fact("Loss", image.loss.toFixed(3)),
        fact("Energy", `${image.energy.toFixed(2)}${unlike ? ", unlike the training images" : ""}`),
        ...(set === undefined ? [] : [fact("Prediction set", name(set || "empty: no class fits as well as usual"))]),
        ...Object.entries(image.slices).map(([attribute, value]) => fact(attribute, name(value))),
        fact("Place", `test image ${image.row}`),
      ),
      element("h3", { textContent: "Most probable" }),
      bars(image),
    ),
    element("div", { className: "taught" }, ...taught(image)),
  );
}

const detail = find("detail");
let listed = []; // the images that the arrow keys go through
let at = 0;

function showDetail(position) {
  if (position < 0 || position >= listed.length) return;
  at = position;
  find("detail-title").textContent = listed[at].file || `Test image ${listed[at].row}`;
  find("detail-content").replaceChildren(describe(listed[at]));
  find("previous").disabled = at === 0;
  find("next").disabled = at === listed.length - 1;
}

function openDetail(list, position) {
  listed = list;
  showDetail(position);
  detail.showModal();
}

find("previous").addEventListener("click", () => showDetail(at - 1));
find("next").addEventListener("click", () => showDetail(at + 1));
find("close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => event.target === detail && detail.close());
detail.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  showDetail(at + step);
});
detail.addEventListener("close", () => focusTile(at));
