// A line that belongs to no part of the page. It lies over the lower edge, so that nothing moves.

import { find } from "./dom.js";

const SHOWN = 8000; // ms

let standing = ""; // what is wrong, until it is not
let timer;

function show(line) {
  const notice = find("notice");
  if (notice.textContent !== line) notice.textContent = line;
  notice.hidden = !line;
}

export function tell(line) {
  clearTimeout(timer);
  show(line);
  timer = setTimeout(() => show(standing), SHOWN);
}

export function trouble(line) {
  if (line === standing) return;
  standing = line;
  clearTimeout(timer);
  show(line);
}
