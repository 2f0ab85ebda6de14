// A line that belongs to no section. It covers the lower edge of the page, so that nothing moves.

import { find } from "./dom.js";

const SHOWN = 8000; // ms

let standing = ""; // the current problem, until it is solved
let timer;

function show(line) {
  const notice = find("notice");
  if (notice.textContent !== line) notice.textContent = line;
  notice.hidden = !line;
}

export function notify(line) {
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
