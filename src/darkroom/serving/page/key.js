// Asking for the API key, where the server wants one.

import { hasKey, keep } from "./api.js";
import { find } from "./dom.js";

export function listen(entered) {
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(find("key").value);
    find("key").value = "";
    find("key-dialog").close();
    entered();
  });
  // There is nothing to see without a key.
  find("key-dialog").addEventListener("cancel", (event) => event.preventDefault());
}

export function prompt() {
  const dialog = find("key-dialog");
  if (dialog.open) return;
  if (hasKey()) find("key-trouble").textContent = "The server refused this key.";
  dialog.showModal();
}
