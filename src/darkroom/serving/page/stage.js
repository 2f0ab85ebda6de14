// The picture's place: paper to draw on, a chosen picture, or a place to drop one.

import { find, showAsItIs } from "./dom.js";

let shown = null;

showAsItIs(find("preview"));

export function lay(picture, { drawable, empty }) {
  const stage = find("stage");
  const brought = picture && !picture.drawn;
  stage.dataset.mode = brought ? "picture" : drawable ? "draw" : "empty";
  find("draw-hint").hidden = !empty;
  find("draw-tools").hidden = !drawable;
  find("undo").disabled = empty;
  find("clear").disabled = !picture;
  if (picture !== shown) preview(brought ? picture : null);
  shown = picture;
}

function preview(picture) {
  const image = find("preview");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  find("preview-name").textContent = picture?.name ?? "";
  if (!picture) return;
  image.alt = `The picture ${picture.name}`;
  image.classList.toggle("exact", Boolean(picture.exact));
  // Formats that only the server can read, such as TIFF, are shown by name.
  image.onload = image.onerror = (event) => find("stage").classList.toggle("unseen", event.type === "error");
  image.src = picture.address ?? URL.createObjectURL(picture.file);
}
