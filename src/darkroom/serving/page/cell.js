// The images behind a cell of the confusion matrix: those in the report of the evaluation.

import * as api from "./api.js";
import { element, find } from "./dom.js";
import * as gallery from "./gallery.js";

let report = null; // the page, asked for when it is first needed
let ofModel = ""; // whose it is

function read(model) {
  const key = `${model.name} ${model.version}`;
  if (key !== ofModel) report = null;
  ofModel = key;
  report ??= api.report().catch((problem) => {
    report = null;
    throw problem;
  });
  return report;
}

// The data of a report are a block of JSON without any "<". The rest of it is for whoever opens the file.
function dataOf(page) {
  const [, rest] = page.split('<script type="application/json" id="data">');
  return JSON.parse(rest.split("</script>")[0]);
}

// Where a click on an image takes it, and the dialog closes.
export async function open(model, { classes, counts }, [actual, predicted], take) {
  const dialog = find("cell-dialog");
  const count = counts[actual][predicted];
  find("cell-title").textContent =
    actual === predicted ? `${classes[actual]}, classified correctly` : `${classes[actual]} mistaken for ${classes[predicted]}`;
  find("cell-about").textContent = "Loading…";
  find("cell-images").replaceChildren();
  find("cell-report").hidden = true;
  dialog.showModal();
  try {
    const page = await read(model);
    const images = dataOf(page)
      .images.filter((image) => image.actual === actual && image.predicted === predicted)
      .sort((one, other) => other.loss - one.loss)
      .map(({ source }) => ({ image: source, actual: classes[actual], predicted: classes[predicted] }));
    find("cell-about").textContent =
      `${images.length.toLocaleString("en")} of ${count.toLocaleString("en")} test images, those with the highest loss first. Choose one to see the answer now.`;
    gallery.show(images, (picture) => {
      dialog.close();
      take(picture);
      find("answer").scrollIntoView({ block: "center" });
    }, find("cell-images"));
    find("cell-report").hidden = false;
    find("cell-report").onclick = () => download(page);
  } catch (problem) {
    find("cell-about").textContent = problem.status === 404 ? "This version was evaluated without a report of its images." : problem.message;
  }
}

function download(page) {
  const address = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  element("a", { href: address, download: "evaluation.html" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

export const listen = () => find("cell-close").addEventListener("click", () => find("cell-dialog").close());
