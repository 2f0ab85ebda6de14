// Pictures from outside: a chosen file, a dropped one, the clipboard. Each is passed on unchanged.

import { find } from "./dom.js";
import { notify } from "./notice.js";

export function listen(take) {
  const first = (files) => {
    if (!files.length) return;
    if (files.length > 1) notify(`${files.length} files: only the first is shown. Use /v1/predict for several.`);
    take(files[0]);
  };
  for (const id of ["file", "photo"]) {
    const chooser = find(id);
    chooser.addEventListener("change", () => {
      first(chooser.files);
      chooser.value = ""; // so that the same file can be chosen again
    });
  }
  for (const id of ["upload", "drop-hint"]) find(id).addEventListener("click", () => find("file").click());

  const cover = find("drop-cover");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    cover.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) cover.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    cover.hidden = true;
    if (event.dataTransfer.files.length) first(event.dataTransfer.files);
    else notify("That is not a file. Save the picture, then drop the file.");
  });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length) {
      event.preventDefault();
      first(files);
    } else if (event.target.tagName !== "INPUT") {
      notify("The clipboard contains no picture.");
    }
  });
}
